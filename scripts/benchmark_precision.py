"""Compare the speed of training steps: float32 and bf16-mixed, compiled or not, channels first, and with one thread.

    python scripts/benchmark_precision.py [--rounds 5] [--threads 2] [--only se_resnet] [--without compile]

Every candidate trains a copy of the same network on the same batch, with SGD, cross-entropy and, unless its name says
otherwise, the channels-last layout of train.py. Compiled candidates run code that compile=true would make; compiling is
not counted, and its time is printed. In each round every candidate runs once, in turn; medians, minima and maxima over
the rounds are printed.

TFLOP/s counts the convolutions and matrix products of forward and backward, each multiply-add as two operations. That
of one large matrix product, in turn with the candidates, is about the most that the machine can do.
"""

import argparse
import copy
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from fovea.models.airbench import Airbench
from fovea.models.se_resnet import SEResNet
from fovea.speed.compiled_network import compile_network

CASES: dict[str, tuple[str, Callable[[], nn.Module], int, int]] = {  # title, network, image size, batch size
    "se_resnet": ("SE-ResNet-18, width 64, 32 px", lambda: SEResNet(10, stem="small"), 32, 32),
    "resnet18": ("torchvision's ResNet-18, 224 px", lambda: torchvision.models.resnet18(num_classes=1000), 224, 16),
    "airbench": ("the network of cifar10_fast, 32 px", lambda: Airbench(10), 32, 1000),
}


class Way(NamedTuple):
    """How a candidate computes.

    Attributes:
        threads: on the CPU; None: all that were asked for.
    """

    bf16: bool = False
    compiled: bool = False
    channels_last: bool = True
    threads: int | None = None


CANDIDATES = {
    "float32": Way(),
    "bf16-mixed": Way(bf16=True),
    "compile": Way(compiled=True),
    "bf16-mixed, compile": Way(bf16=True, compiled=True),
    "bf16-mixed, channels first": Way(bf16=True, channels_last=False),
    "bf16-mixed, one thread": Way(bf16=True, threads=1),
}
SIDE = 4096  # of the matrices of the product


class Candidate:
    """A network and its optimizer, for steps on one batch."""

    def __init__(self, network: nn.Module, images: Tensor, labels: Tensor, way: Way) -> None:
        layout = torch.channels_last if way.channels_last else torch.contiguous_format
        self.network, self.images = network.train().to(memory_format=layout), images.to(memory_format=layout)
        self.labels, self.way = labels, way
        if way.compiled:
            compile_network(self.network, [len(images)])
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)

    def images_per_second(self, steps: int) -> float:
        """Make some steps and return the speed."""
        threads = torch.get_num_threads()
        torch.set_num_threads(self.way.threads or threads)
        start = now(self.images.device)
        for _ in range(steps):
            self.step()
        seconds = now(self.images.device) - start
        torch.set_num_threads(threads)
        return steps * len(self.images) / seconds

    def step(self) -> None:
        with torch.autocast(self.images.device.type, torch.bfloat16, enabled=self.way.bf16):
            logits = self.network(self.images)  # (B, K)
        loss = F.cross_entropy(logits.float(), self.labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def now(device: torch.device) -> float:
    """Wait until a GPU has finished its work, and return the time in seconds."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def product_speed(device: torch.device, dtype: torch.dtype) -> float:
    """Return the operations a second of a matrix product of SIDE x SIDE numbers."""
    matrix = torch.randn(SIDE, SIDE, device=device, dtype=dtype)
    start = now(device)
    matrix @ matrix
    return 2 * SIDE**3 / (now(device) - start)


def candidates(case: str, device: torch.device, batch_size: int | None, without: str | None) -> dict[str, Candidate]:
    """Build the candidates, warmed up by one step each."""
    _, make, size, usual = CASES[case]
    torch.manual_seed(0)
    network = make().to(device)
    images = torch.randn(batch_size or usual, 3, size, size, device=device)
    labels, built = torch.randint(0, 10, (len(images),), device=device), {}
    for name, way in CANDIDATES.items():
        if (without is None or without not in name) and (way.threads is None or device.type == "cpu"):
            built[name] = Candidate(copy.deepcopy(network), images, labels, way)
            start = time.perf_counter()
            built[name].images_per_second(1)
            print(f"{name}: first step in {time.perf_counter() - start:.1f} s", flush=True)
    return built


def measure(case: str, built: dict[str, Candidate], rounds: int, steps: int) -> None:
    """Print a line for each candidate: its speed, its ratio to float32 in the same round, and its operations."""
    with FlopCounterMode(display=False) as counter:
        built["float32"].step()
    batch, device = len(built["float32"].images), built["float32"].images.device
    of_image, dtypes = counter.get_total_flops() / batch, (torch.float32, torch.bfloat16)
    taken, products = list[dict[str, float]](), list[list[float]]()
    for _ in range(rounds):
        taken.append({name: one.images_per_second(steps) for name, one in built.items()})
        products.append([product_speed(device, dtype) / 1e12 for dtype in dtypes])
    print(f"\n{CASES[case][0]}, batch {batch}\n{'images/s':>24} {'times float32':>20} {'TFLOP/s':>20}")
    for name in built:
        speeds, ratios = [r[name] for r in taken], [r[name] / r["float32"] for r in taken]
        done = middle([speed * of_image / 1e12 for speed in speeds])
        print(f"{middle(speeds):>24} {middle(ratios):>20} {done:>20}  {name}", flush=True)
    for kind, rates in zip(("float32", "bfloat16"), zip(*products, strict=True), strict=True):
        print(f"{'':>45} {middle(rates):>20}  a matrix product in {kind}")


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
    parser.add_argument(
        "--without", choices=["bf16", "compile", "channels", "thread"], help="leave out the candidates with this"
    )
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
