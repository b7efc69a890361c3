"""Kill real trainings at random moments, resume them, and compare each with an uninterrupted run.

    python scripts/chaos.py --kills 50 --minutes 60

Trains on scikit-learn's digits in subprocesses. Each training gets a random signal after a random time and is resumed,
until it is finished; then the next kind of training begins. A run is lost if it can't be resumed. It is different if a
weight, the optimizer, the averaged weights, a schedule, a logged value or a test figure differs. The exit code is 1 if
a run is lost or different. The times follow from --seed, but depend on the machine's speed too.
"""

import argparse
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fovea.runs.bit_differences import differences, is_timed

TRAIN = Path(__file__).resolve().parents[1] / "src" / "train.py"
COMMON = (
    "model=mobilenet_v2",
    "model.width_mult=0.5",
    "data.batch_size=64",
    "trainer=cpu",
    "trainer.max_epochs=4",
    "trainer.log_every_n_steps=5",
    "checkpoint.every_n_steps=7",
    "augment.train.transforms=[{_target_: torchvision.transforms.v2.RandomAffine, degrees: 10}]",
)
KINDS: dict[str, tuple[str, ...]] = {
    "mixing, averaged weights, accumulation, a schedule per step; 0, 2, then 3 workers": (
        "mixing=mixup_cutmix",
        "callbacks=[default,ema]",
        "trainer.accumulate_grad_batches=2",
        "scheduler=one_cycle",
    ),
    "early stopping, plateau schedule, AdamW, validation twice an epoch": (
        "callbacks=[default,early_stopping]",
        "callbacks.early_stopping.patience=6",
        "scheduler=plateau",
        "scheduler.patience=0",
        "optimizer=adamw",
        "trainer.val_check_interval=10",
        "data.num_workers=2",
    ),
    "two processes, averaged weights, warm-up and cosine, growing batches": (
        "trainer.devices=2",
        "data.progressive.batch_size=32",
        "data.progressive.epochs=3",
        "callbacks=[default,ema]",
        "scheduler=warmup_cosine",
        "data.num_workers=0",
    ),
    "max_steps within an epoch, one device": ("trainer.max_steps=70", "trainer.max_epochs=-1", "data.num_workers=0"),
}
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


@dataclass
class Tally:
    """Counts of kills and runs, and the runs that were lost or different."""

    kills: Counter[str] = field(default_factory=Counter)
    moments: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    lost: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)


def main() -> None:
    """Train, kill, resume and compare until the number of kills or of minutes is reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="stop after this number of kills")
    parser.add_argument("--minutes", type=float, default=60, help="begin no run after this time")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random moments and signals")
    parser.add_argument("--folder", type=Path, help="keep the runs in this folder; default: a temporary folder")
    parser.add_argument("--kind", type=int, choices=range(len(KINDS)), help="only this kind of training")
    options = parser.parse_args()
    folder = (options.folder or Path(tempfile.mkdtemp(prefix="chaos_"))).absolute()
    os.environ |= {"RUNS_DIR": str(folder), "DATA_DIR": str(folder / "data"), "OMP_NUM_THREADS": "1"}
    kinds = list(KINDS.items()) if options.kind is None else [list(KINDS.items())[options.kind]]
    draw, tally, end = random.Random(options.seed), Tally(), time.monotonic() + 60 * options.minutes
    whole: dict[str, tuple[Path, float]] = {}
    while sum(tally.kills.values()) < options.kills and time.monotonic() < end:
        name, overrides = kinds[tally.runs % len(kinds)]
        if name not in whole:
            whole[name] = uninterrupted(folder / f"whole_{len(whole)}", overrides)
        run = folder / f"run_{tally.runs}"
        if train_to_end(run, overrides, whole[name][1], draw, tally, options.kills):
            tally.different += [f"{run.name} ({name}): {line}" for line in all_differences(whole[name][0], run)]
        tally.runs += 1
        print(report(tally), flush=True)
    print(f"python {platform.python_version()}, torch {torch.__version__}, {os.cpu_count()} cores")
    if not options.folder and not (tally.lost or tally.different):
        shutil.rmtree(folder)
    sys.exit(bool(tally.lost or tally.different))


def uninterrupted(run: Path, overrides: tuple[str, ...]) -> tuple[Path, float]:
    """Train without kills; return the run's folder and the seconds that it took."""
    start = time.monotonic()
    code = begin(run, overrides).wait()
    if code:
        sys.exit(f"the training itself fails: {(run / 'out.txt').read_text()[-2000:]}")
    return run, time.monotonic() - start


def begin(run: Path, overrides: tuple[str, ...], resumed: int = 0) -> subprocess.Popen[bytes]:
    """Start or resume a training in its own process group. Each resume changes the number of workers, if not typed."""
    workers = (
        () if any("num_workers" in word for word in overrides) else (f"data.num_workers={(0, 2, 3)[resumed % 3]}",)
    )
    words = (f"resume={run}", *workers) if resumed else (*COMMON, *overrides, *workers, f"hydra.run.dir={run}")
    run.mkdir(parents=True, exist_ok=True)
    if not resumed:  # train.py refuses a folder with a config.yaml, which a kill before the first checkpoint leaves
        (run / "config.yaml").unlink(missing_ok=True)
    with (run / "out.txt").open("ab") as out:
        return subprocess.Popen([sys.executable, str(TRAIN), *words], stdout=out, stderr=out, start_new_session=True)


def train_to_end(
    run: Path, overrides: tuple[str, ...], seconds: float, draw: random.Random, tally: Tally, most: int
) -> bool:
    """Kill and resume a training until it ends; return whether it ended without an error."""
    resumed = 0
    while True:
        process = begin(run, overrides, resumed)
        no_more_kills = sum(tally.kills.values()) >= most
        try:
            code = process.wait(None if no_more_kills else draw.uniform(0, 0.9) * seconds)
        except subprocess.TimeoutExpired:
            kill(process, run, draw, tally)
            has_checkpoint = any((run / "checkpoints").glob("*.ckpt"))
            resumed = resumed + 1 if has_checkpoint else 0
            continue
        if code == 0:
            return True
        tally.lost.append(f"{run}: exit code {code}: {(run / 'out.txt').read_text()[-500:]}")
        return False


def kill(process: subprocess.Popen[bytes], run: Path, draw: random.Random, tally: Tally) -> None:
    """Send a random signal to the process or to its whole group, then wait until all of the group have ended."""
    number, to_group = draw.choice(SIGNALS), draw.random() < 0.5
    tally.moments[moment(run)] += 1
    (os.killpg if to_group else os.kill)(process.pid, number)
    tally.kills[signal.Signals(number).name + (" to all processes" if to_group else "")] += 1
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        tally.lost.append(f"{run}: still running 60 s after {signal.Signals(number).name}")
        process.kill()
    wait_for_group(process.pid, run, tally)


def wait_for_group(group: int, run: Path, tally: Tally) -> None:
    """Wait until the other ranks and the workers have ended; they must do so within 60 s."""
    end = time.monotonic() + 60
    while alive(group) and time.monotonic() < end:
        time.sleep(0.2)
    if alive(group):
        tally.lost.append(f"{run}: a process outlived its training by 60 s")
        os.killpg(group, signal.SIGKILL)


def alive(group: int) -> bool:
    """Whether a process of the group runs; zombies don't count."""
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _parent, its_group = file.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(its_group) == group and state != "Z":
            return True
    return False


def moment(run: Path) -> str:
    """Return the stage of a run: before its first checkpoint, in its first epoch, in a later one, or in its test."""
    if not (run / "checkpoints" / "last.ckpt").exists():
        return "before the first checkpoint"
    logged = (run / "train.log").read_text()
    if "steps" in json.loads((run / "results.json").read_text()):
        return "in the test"
    return "in a later epoch" if "epoch 1/" in logged else "in the first epoch"


def all_differences(whole: Path, run: Path) -> Iterator[str]:
    """Yield a line for each difference between two runs, including TensorBoard's curves."""
    yield from differences(whole, run)
    if scalars(whole) != scalars(run):
        yield "TensorBoard's curves"


def scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Return {curve: [(step, value)]} as TensorBoard shows them, without curves that depend on time."""
    events = EventAccumulator(str(run / "tensorboard"), {"scalars": 0})
    events.Reload()
    tags = [tag for tag in events.Tags()["scalars"] if not is_timed(tag)]
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}


def report(tally: Tally) -> str:
    """Return a summary of all runs so far."""
    by = ", ".join(f"{count} {name}" for name, count in tally.kills.most_common())
    when = ", ".join(f"{count} {name}" for name, count in tally.moments.most_common())
    lines = [f"{sum(tally.kills.values())} kills of {tally.runs} runs: {by}; {when}"]
    lines.append(f"{len(tally.lost)} lost runs, {len(tally.different)} differences")
    return "\n".join([*lines, *tally.lost, *tally.different])


if __name__ == "__main__":
    main()
