"""Measure how long a user waits for the first training step (compared with its imports alone) and for an error.

    python scripts/benchmark_start.py [--rounds 5]

Each round runs every candidate once, in turn, in a new process; the medians are printed.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
TRAIN = str(PROJECT / "src" / "train.py")
STOP = "+callbacks.stop={_target_: benchmark_start.StopAtFirstStep}"
CANDIDATES = {
    "import torch, torchvision, lightning": ["-c", "import torch, torchvision, lightning"],
    "start to first step": [TRAIN, STOP],
    "train.py --help": [TRAIN, "--help"],
    "train.py --cfg job": [TRAIN, "--cfg", "job"],
    "train.py model=nonexistent": [TRAIN, "model=nonexistent"],
    "train.py model.dephts=50": [TRAIN, "model.dephts=50"],
    "train.py trainer.max_epochs=abc": [TRAIN, "trainer.max_epochs=abc"],
}


def StopAtFirstStep() -> Any:  # noqa: N802  # a function, so that this file does not import Lightning
    """A callback that ends the process as soon as the first step is done."""
    from lightning.pytorch.callbacks import LambdaCallback

    return LambdaCallback(on_train_batch_end=lambda *_: os._exit(0))


def seconds(words: list[str], folder: str) -> float:
    """Return the wall time of one process; its data and run folders go to `folder`."""
    own = {"PYTHONPATH": str(PROJECT / "scripts"), "RUNS_DIR": f"{folder}/runs", "DATA_DIR": f"{folder}/data"}
    start = time.perf_counter()
    subprocess.run([sys.executable, *words], env=os.environ | own, capture_output=True, check=False)
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        seconds(CANDIDATES["start to first step"], folder)  # generates the digits and fills the caches
        taken = [{name: seconds(words, folder) for name, words in CANDIDATES.items()} for _ in range(rounds)]
    print(f"median of {rounds}, seconds (least to most)")
    for name in CANDIDATES:
        column = sorted(one[name] for one in taken)
        print(f"{statistics.median(column):6.2f}  ({column[0]:.2f} to {column[-1]:.2f})  {name}")


if __name__ == "__main__":
    main()
