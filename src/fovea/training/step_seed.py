"""Seeds what a training step draws (dropout, mixing, erasing), so that a restart changes nothing."""

import numpy as np
import torch


def seed_step(seed: int, step: int, rank: int, device: torch.device) -> None:
    """Seed the CPU's generator and the device's. `torch.manual_seed` looks for all kinds of devices: 60 times slower.

    Args:
        step: the number of the batch since the training began.
    """
    mixed = int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0])
    torch.default_generator.manual_seed(mixed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(mixed)
