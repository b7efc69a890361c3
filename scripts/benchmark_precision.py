"""Compare the speed of training steps in float32, in bf16-mixed precision, compiled, and both.

    python scripts/benchmark_precision.py [--rounds 5] [--threads 2] [--only se_resnet] [--without compile]

Every candidate trains a copy of the same network on the same batch, with SGD, cross-entropy and the channels-last
layout of train.py. Compiled candidates run code that compile=true would make; compiling is not counted, and its time is
printed. In each round every candidate runs once, in turn; medians, minima and maxima over the rounds are printed.
"""

import argparse
import copy
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from fovea.models.se_resnet import SEResNet
from fovea.speed.compiled_network import compile_network

CASES: dict[str, tuple[str, Callable[[], nn.Module], int, int]] = {  # title, network, image size, batch size
    "se_resnet": ("SE-ResNet-18, width 64, 32 px", lambda: SEResNet(10, stem="small"), 32, 32),
    "resnet18": ("torchvision's ResNet-18, 224 px", lambda: torchvision.models.resnet18(num_classes=1000), 224, 16),
}
CANDIDATES = {  # name -> (bf16, compiled)
    "float32": (False, False),
    "bf16-mixed": (True, False),
    "compile": (False, True),
    "bf16-mixed, compile": (True, True),
}


class Candidate:
    """A network and its optimizer, for steps on one batch."""

    def __init__(self, network: nn.Module, images: Tensor, labels: Tensor, bf16: bool, compiled: bool) -> None:
        self.network, self.images, self.labels, self.bf16 = network.train(), images, labels, bf16
        if compiled:
            compile_network(self.network, [len(images)])
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)

    def images_per_second(self, steps: int) -> float:
        """Make some steps and return the speed."""
        start = self.now()
        for _ in range(steps):
            with torch.autocast(self.images.device.type, torch.bfloat16, enabled=self.bf16):
                logits = self.network(self.images)  # (B, K)
            loss = F.cross_entropy(logits.float(), self.labels)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        return steps * len(self.images) / (self.now() - start)

    def now(self) -> float:
        """Wait until a GPU has finished its work, and return the time in seconds."""
        if self.images.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def candidates(case: str, device: torch.device, batch_size: int | None, without: str | None) -> dict[str, Candidate]:
    """Build the candidates, warmed up by one step each."""
    _, make, size, usual = CASES[case]
    torch.manual_seed(0)
    network = make().to(device).to(memory_format=torch.channels_last)
    images = torch.randn(batch_size or usual, 3, size, size, device=device).to(memory_format=torch.channels_last)
    labels, built = torch.randint(0, 10, (len(images),), device=device), {}
    for name, (bf16, compiled) in CANDIDATES.items():
        if without is None or without not in name:
            built[name] = Candidate(copy.deepcopy(network), images, labels, bf16, compiled)
            start = time.perf_counter()
            built[name].images_per_second(1)
            print(f"{name}: first step in {time.perf_counter() - start:.1f} s", flush=True)
    return built


def measure(case: str, built: dict[str, Candidate], rounds: int, steps: int) -> None:
    """Print a line for each candidate: its speed, and its ratio to float32 in the same round."""
    taken = [{name: one.images_per_second(steps) for name, one in built.items()} for _ in range(rounds)]
    batch = len(next(iter(built.values())).images)
    print(f"\n{CASES[case][0]}, batch {batch}\n{'images/s':>22} {'times float32':>22}")
    for name in built:
        speeds, ratios = [r[name] for r in taken], [r[name] / r["float32"] for r in taken]
        print(f"{middle(speeds):>22} {middle(ratios):>22}  {name}", flush=True)


def middle(values: Sequence[float]) -> str:
    """Return the median, the minimum and the maximum as text."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="steps of each candidate in a round")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch on the CPU")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch-size", type=int, help="images of a batch, for all networks")
    parser.add_argument("--only", choices=list(CASES), help="measure only this network")
    parser.add_argument("--without", choices=["bf16", "compile"], help="leave out the candidates with this")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    device = torch.device(given.device)
    part = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {given.threads} threads"
    capability = torch.backends.cpu.get_cpu_capability()
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    print(f"{part} ({capability}), load {os.getloadavg()[0]:.1f}; {versions}")
    for case in [given.only] if given.only else CASES:
        measure(case, candidates(case, device, given.batch_size, given.without), given.rounds, given.steps)


if __name__ == "__main__":
    main()
