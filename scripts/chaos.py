"""Kill real trainings at random moments, resume them, and compare each with the run that nothing stopped.

    python scripts/chaos.py --kills 50 --minutes 60

Trains on scikit-learn's digits, in processes of their own, with a random signal after a random time, again and again
until a training has come to its end; then the next kind. A run is lost when it can't be resumed, and differs when
anything of it does: a weight, the optimizer, the average, a schedule, a logged value, a test figure. Ends with 1 where
any did. The moments follow from --seed, as far as the machine's speed lets them.
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

from fovea.runs.compare import differences, is_timed

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
    "two processes, averaged weights, warm-up and cosine": (
        "trainer.devices=2",
        "callbacks=[default,ema]",
        "scheduler=warmup_cosine",
        "data.num_workers=0",
    ),
    "max_steps within an epoch, one device": ("trainer.max_steps=70", "trainer.max_epochs=-1", "data.num_workers=0"),
}
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


@dataclass
class Tally:
    """What happened."""

    kills: Counter[str] = field(default_factory=Counter)
    moments: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    lost: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)


def main() -> None:
    """Until so many kills, or so many minutes, are over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=60, help="no further run is begun after these")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where the runs go, and stay; else a temporary one")
    parser.add_argument("--kind", type=int, choices=range(len(KINDS)), help="only this one")
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
        if until_it_ends(run, overrides, whole[name][1], draw, tally, options.kills):
            tally.different += [f"{run.name} ({name}): {line}" for line in compared(whole[name][0], run)]
        tally.runs += 1
        print(told(tally), flush=True)
    print(f"python {platform.python_version()}, torch {torch.__version__}, {os.cpu_count()} cores")
    if not options.folder and not (tally.lost or tally.different):
        shutil.rmtree(folder)
    sys.exit(bool(tally.lost or tally.different))


def uninterrupted(run: Path, overrides: tuple[str, ...]) -> tuple[Path, float]:
    """(its folder, the seconds it took)."""
    start = time.monotonic()
    code = begin(run, overrides).wait()
    if code:
        sys.exit(f"the training itself fails: {(run / 'out.txt').read_text()[-2000:]}")
    return run, time.monotonic() - start


def begin(run: Path, overrides: tuple[str, ...], resumed: int = 0) -> subprocess.Popen[bytes]:
    """A process group of its own; the n-th resume of a run that names no workers has another number of them."""
    workers = (
        () if any("num_workers" in word for word in overrides) else (f"data.num_workers={(0, 2, 3)[resumed % 3]}",)
    )
    words = (f"resume={run}", *workers) if resumed else (*COMMON, *overrides, *workers, f"hydra.run.dir={run}")
    run.mkdir(parents=True, exist_ok=True)
    if not resumed:  # what a kill before the first checkpoint left is no run to begin another one beside
        (run / "config.yaml").unlink(missing_ok=True)
    with (run / "out.txt").open("ab") as out:
        return subprocess.Popen([sys.executable, str(TRAIN), *words], stdout=out, stderr=out, start_new_session=True)


def until_it_ends(
    run: Path, overrides: tuple[str, ...], seconds: float, draw: random.Random, tally: Tally, most: int
) -> bool:
    """Kill and resume a training until it is through; whether it came to its end."""
    resumed = 0
    while True:
        process = begin(run, overrides, resumed)
        left_alone = sum(tally.kills.values()) >= most
        try:
            code = process.wait(None if left_alone else draw.uniform(0, 0.9) * seconds)
        except subprocess.TimeoutExpired:
            strike(process, run, draw, tally)
            has_checkpoint = any((run / "checkpoints").glob("*.ckpt"))
            resumed = resumed + 1 if has_checkpoint else 0
            continue
        if code == 0:
            return True
        tally.lost.append(f"{run}: exit code {code}: {(run / 'out.txt').read_text()[-500:]}")
        return False


def strike(process: subprocess.Popen[bytes], run: Path, draw: random.Random, tally: Tally) -> None:
    """One signal, to the process or to all of its group; then wait until it is gone, and its group with it."""
    number, all_of_them = draw.choice(SIGNALS), draw.random() < 0.5
    tally.moments[moment(run)] += 1
    (os.killpg if all_of_them else os.kill)(process.pid, number)
    tally.kills[signal.Signals(number).name + (" to all processes" if all_of_them else "")] += 1
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        tally.lost.append(f"{run}: still there 60 s after {signal.Signals(number).name}")
        process.kill()
    wait_for_group(process.pid, run, tally)


def wait_for_group(group: int, run: Path, tally: Tally) -> None:
    """Other ranks and loader processes end by themselves."""
    end = time.monotonic() + 60
    while alive(group) and time.monotonic() < end:
        time.sleep(0.2)
    if alive(group):
        tally.lost.append(f"{run}: a process outlived its training by 60 s")
        os.killpg(group, signal.SIGKILL)


def alive(group: int) -> bool:
    """Whether a process of the group runs; one that has ended and waits to be collected doesn't count."""
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _parent, its_group = file.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(its_group) == group and state != "Z":
            return True
    return False


def moment(run: Path) -> str:
    """When a run is hit: before its first checkpoint, in its first epoch, later, or in its test."""
    if not (run / "checkpoints" / "last.ckpt").exists():
        return "before the first checkpoint"
    logged = (run / "train.log").read_text()
    if "steps" in json.loads((run / "results.json").read_text()):
        return "in the test"
    return "in a later epoch" if "epoch 1/" in logged else "in the first epoch"


def compared(whole: Path, run: Path) -> Iterator[str]:
    """What differs."""
    yield from differences(whole, run)
    if scalars(whole) != scalars(run):
        yield "TensorBoard's curves"


def scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    """{curve: [(step, value)]} as TensorBoard shows them, without times."""
    events = EventAccumulator(str(run / "tensorboard"), {"scalars": 0})
    events.Reload()
    tags = [tag for tag in events.Tags()["scalars"] if not is_timed(tag)]
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}


def told(tally: Tally) -> str:
    """The summary so far."""
    by = ", ".join(f"{count} {name}" for name, count in tally.kills.most_common())
    when = ", ".join(f"{count} {name}" for name, count in tally.moments.most_common())
    lines = [f"{sum(tally.kills.values())} kills of {tally.runs} runs: {by}; {when}"]
    lines.append(f"{len(tally.lost)} lost runs, {len(tally.different)} differences")
    return "\n".join([*lines, *tally.lost, *tally.different])


if __name__ == "__main__":
    main()
