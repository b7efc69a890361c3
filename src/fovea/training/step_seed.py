"""Seeds the random numbers of a training step (dropout, mixing, erasing), so that a resumed run draws the same."""

import numpy as np
import torch


def seed_step(seed: int, step: int, rank: int, device: torch.device) -> None:
    """Seed the CPU's generator and the device's.

    `torch.manual_seed` seeds all kinds of devices and takes 60 times as long.

    Args:
        seed: of the training.
        step: number of the batch since the training began.
        rank: of this process.
        device: of the network.
    """
    mixed = int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0])
    torch.default_generator.manual_seed(mixed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(mixed)
