"""Training steps a second where several processes share the machine's cores, under several settings of OpenMP.

    python scripts/benchmark_sharing.py [--rounds 5] [--epochs 3] [overrides of src/train.py]

Processes that each start a thread for every core wait for each other, and how they wait is a setting of OpenMP. Three
cases are measured on the CPU: one training, two trainings at once, and one training of two DDP processes. In each round
every case runs with every setting, in turn. A figure is the sum over the trainings that run at once; of each training
it is the median of its epochs after the first, without start-up and validation. Medians of the rounds are printed.

The settings are those of libgomp, which torch's wheels for Linux bring. train.py sets OMP_WAIT_POLICY=PASSIVE unless
the caller has set it, so its threads sleep while they wait. OpenMP's variables of the calling shell are removed. Let
nothing else run meanwhile.
"""

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import yaml

TRAIN = str(Path(__file__).resolve().parents[1] / "src" / "train.py")
REMOVED = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "GOMP_CPU_AFFINITY", "OMP_PROC_BIND", "OMP_PLACES")


class Case(NamedTuple):
    """What runs at once."""

    trainings: int
    overrides: tuple[str, ...]
    processes: int  # of all trainings together


CASES = {
    "1 training": Case(1, ("trainer=cpu",), 1),
    "2 trainings": Case(2, ("trainer=cpu",), 2),
    "1 training, 2 DDP processes": Case(1, ("trainer=ddp", "trainer.accelerator=cpu"), 2),
}


def settings(case: Case) -> dict[str, dict[str, str]]:
    """By name, what is added to the environment of each training."""
    found = {
        "threads sleep (train.py's default)": {},
        "threads spin (libgomp's default)": {"GOMP_SPINCOUNT": "300000"},
        "threads spin shortly": {"GOMP_SPINCOUNT": "10000"},
    }
    if case.trainings > 1:
        threads = max(1, cores() // case.processes)
        found[f"threads sleep, {threads} for each training"] = {"OMP_NUM_THREADS": str(threads)}
    elif case.processes > 1:  # Lightning's own choice is the cores divided by the processes
        every = {"OMP_NUM_THREADS": str(cores()), "GOMP_SPINCOUNT": "300000"}
        found[f"threads spin, {cores()} for each process"] = every
    return found


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def measure(case: Case, setting: dict[str, str], overrides: list[str], data: str) -> float:
    """Steps a second of the case's trainings together; the digits are written to and read from `data`."""
    kept = {name: value for name, value in os.environ.items() if name not in REMOVED}
    words = [sys.executable, TRAIN, *case.overrides, *overrides]
    with tempfile.TemporaryDirectory() as folder:
        runs = [Path(folder, str(n)) for n in range(case.trainings)]
        places = [{"RUNS_DIR": str(run), "DATA_DIR": data} for run in runs]
        started = [
            subprocess.Popen(words, env=kept | setting | place, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            for place in places
        ]
        errors = [process.communicate()[1] for process in started]
        if any(process.returncode for process in started):
            sys.exit(b"\n".join(errors).decode())
        return sum(steps_per_second(run) for run in runs)


def steps_per_second(runs: Path) -> float:
    """Of the only run in `runs`: the median of its epochs after the first."""
    (file,) = runs.rglob("metrics.csv")
    batch = yaml.safe_load((file.parent / "config.yaml").read_text("utf-8"))["data"]["batch_size"]
    with open(file, newline="", encoding="utf-8") as rows:
        rates = [row["train/images_per_second"] for row in csv.DictReader(rows)]
    return statistics.median([float(rate) for rate in rates if rate][1:]) / batch


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=3, help="of each training that count; one more comes before")
    parser.add_argument("overrides", nargs="*", help="of src/train.py; a batch_size that is typed is the global one")
    chosen = parser.parse_args()
    overrides = [f"trainer.max_epochs={chosen.epochs + 1}", *chosen.overrides]
    seen: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as data:
        for n in range(chosen.rounds):
            for name, case in CASES.items():
                for setting, variables in settings(case).items():
                    rate = measure(case, variables, overrides, data)
                    seen.setdefault((name, setting), []).append(rate)
                    print(f"round {n + 1} of {chosen.rounds}: {rate:7.2f}  {name}, {setting}", file=sys.stderr)
    print(f"steps a second on {cores()} cores, all trainings together: median of {chosen.rounds} (least to most)")
    for (name, setting), rates in seen.items():
        print(f"{statistics.median(rates):7.2f}  ({min(rates):.2f} to {max(rates):.2f})  {name}, {setting}")


if __name__ == "__main__":
    main()
