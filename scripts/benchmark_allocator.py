"""Compare training steps on a CPU with freed memory kept, as train.py sets it, and with the C library's default.

    python scripts/benchmark_allocator.py [--rounds 5] [--steps 8] [--batch 1000] [--threads 1]

airbench94's network trains on random images in bf16-mixed precision. Every run is a process of its own, as the setting
can't be taken back; in each round both run, in turn. Medians, least and most over the rounds are printed; page faults
are those of a step.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time

import torch
from torch.nn import functional as F

from fovea.distributed.memory import keep_freed_memory
from fovea.models.airbench import Airbench

WARM_UP = 3  # steps that are not measured


def measure(steps: int, batch: int, threads: int) -> tuple[float, float]:
    """Return images a second, by the wall clock, and page faults a step."""
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    network = Airbench(10).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD((p for p in network.parameters() if p.requires_grad), lr=0.01, momentum=0.9)
    images = torch.randn(batch, 3, 32, 32).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (batch,))
    start, faults = 0.0, 0
    for step in range(WARM_UP + steps):
        if step == WARM_UP:
            start, faults = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(images)  # (B, 10)
        F.cross_entropy(logits.float(), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
    return steps * batch / (time.perf_counter() - start), faults / steps


def main() -> None:
    """Run both in turn and print the comparison, or, with --run, measure one."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--steps", type=int, default=8, help="measured steps of a run")
    options.add_argument("--batch", type=int, default=1000)
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--run", choices=("kept", "returned"), help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.run:
        if given.run == "kept":
            keep_freed_memory()
        print(*measure(given.steps, given.batch, given.threads))
        return
    found: dict[str, list[tuple[float, float]]] = {"returned": [], "kept": []}
    for _ in range(given.rounds):
        for name, runs in found.items():
            command = [sys.executable, __file__, "--run", name, "--steps", str(given.steps)]
            command += ["--batch", str(given.batch), "--threads", str(given.threads)]
            printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
            runs.append((float(printed[0]), float(printed[1])))
    ratios = [kept[0] / returned[0] for kept, returned in zip(found["kept"], found["returned"], strict=True)]
    for name, runs in found.items():
        speeds = [speed for speed, _ in runs]
        faults = statistics.median(count for _, count in runs)
        print(f"{name:9} {statistics.median(speeds):7.0f} images/s ({min(speeds):.0f} to {max(speeds):.0f})", end="")
        print(f"  {faults:9,.0f} page faults a step")
    print(f"kept / returned: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}), n={len(ratios)}")


if __name__ == "__main__":
    main()
