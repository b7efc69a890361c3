"""What is said at the end of a program: what was tested, the worst classes, and the commands to go on with."""

import logging
import math
import os
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fovea.runs.checkpoint_names import TO_EVALUATE, TO_RESUME, existing

log = logging.getLogger(__name__)
FOLLOWED = ("f1", "average_precision")  # what classes are ranked by: the first that there is
MOST = 5  # classes


def tested(results: Mapping[str, Any], checkpoint: Path | None, images: int, split: str, asked: str) -> str:
    """`tested best.ckpt (epoch 9, step 351, val/accuracy 0.9778) on 359 test images`.

    Args:
        results: the run's results.json.
        checkpoint: whose weights were tested; None: the last ones of a training that keeps no best.
        images: how many were read.
        split: train, val, test or all.
        asked: the split that was to be tested; another one stands in where the data has none.
    """
    best, about = results.get("best"), ""
    if best and checkpoint and best["checkpoint"] == f"{checkpoint.parent.name}/{checkpoint.name}":
        about = f" (epoch {best['epoch'] + 1}, step {best['step']}, {results['monitor']} {_figure(best['value'])})"
    weights = checkpoint.name if checkpoint else "the last weights (there is no best checkpoint)"
    what = "images, all of the data" if split == "all" else f"{split} images"
    instead = "" if split == asked else f", as the data has no {asked} split"
    return f"tested {weights}{about} on {images:,} {what}{instead}"


def figures_text(figures: Mapping[str, float]) -> str:
    """`accuracy 0.9526  f1 0.9522  loss 0.1754`."""
    return "  ".join(f"{name} {_figure(value)}" for name, value in sorted(figures.items()))


def _figure(value: float | None) -> str:
    return "undefined" if value is None or math.isnan(value) else f"{value:.4f}"


def lowest(class_names: Sequence[str], per_class: Mapping[str, Iterable[Any]], averaged: bool) -> str:
    """`lowest f1: dog (0.8125)  cat (0.9000)`; empty where no class has a figure below 1.

    Args:
        class_names: K of them.
        per_class: {metric: (K,)} as per_class.csv has them; nan where undefined.
        averaged: the run follows the averaged weights, and so does this.
    """
    multilabel = "average_precision" in per_class
    wanted = FOLLOWED[::-1] if multilabel else FOLLOWED
    name = next((full for part in wanted if (full := "ema_" * averaged + part) in per_class), None)
    if name is None:
        return ""
    values = [(float(value), k) for k, value in enumerate(per_class[name])]
    worst = sorted(pair for pair in values if pair[0] < 1)[: min(MOST, math.ceil(len(class_names) / 2))]
    return f"lowest {name}: " + "  ".join(f"{class_names[k]} ({value:.4f})" for value, k in worst) if worst else ""


def shortest(path: str | Path) -> str:
    """A path, relative to the current folder where that is shorter."""
    try:
        return min(str(path), os.path.relpath(path), key=len)
    except (ValueError, OSError):  # another drive; a current folder that is gone
        return str(path)


def command(program: str, *words: str) -> str:
    """`python src/<program>.py <words>`, for the shell; Python and the program's folder are as they were typed."""
    script = Path(sys.argv[0]).with_name(f"{program}.py")
    return shlex.join([shortest(sys.orig_argv[0]), shortest(script), *words])


def next_commands(folder: Path, longer: str) -> list[str]:
    """What can be done with a finished run, as far as its files allow; nothing for a job of a sweep.

    Args:
        folder: the run's.
        longer: the override that prolongs it, or nothing.
    """
    run, commands = shortest(folder), list[str]()
    if _is_job(folder):
        return commands
    if existing(folder, TO_EVALUATE):
        commands += [command("evaluate", f"run={run}"), command("predict", f"run={run}", "source=photos")]
    if (folder / "tensorboard").is_dir():
        commands.append(shlex.join(["tensorboard", "--logdir", run]))
    if longer and _can_go_on(folder):
        commands.append(command("train", f"resume={run}", longer))
    return commands


def say_figures(
    split: str, figures: Mapping[str, float], class_names: Sequence[str], per_class: Mapping[str, Any], monitor: str
) -> None:
    """Log the figures of a test, and the worst classes."""
    log.info("%s: %s", split, figures_text(figures))
    worst = lowest(class_names, per_class, averaged="/ema_" in monitor)
    if worst:
        log.info(worst)


def say_next(commands: Sequence[str]) -> None:
    """Log the commands, one a line; a terminal breaks none of them, so that they can be copied."""
    if commands:
        text = "\n".join(["next:", *commands])
        log.info(text, extra={"screen": text})


def longer(max_epochs: int | None, max_steps: int) -> str:
    """The override with which a run of this length goes on to twice the length; empty where neither ends it."""
    if max_steps > 0:
        return f"trainer.max_steps={2 * max_steps}"
    return f"trainer.max_epochs={2 * max_epochs}" if max_epochs and max_epochs > 0 else ""


def to_go_on(folder: Path) -> str:
    """How a run that did not come to its end goes on; empty where it can't, and for a job of a sweep."""
    if _is_job(folder) or not _can_go_on(folder):
        return ""
    return f"to go on from the last checkpoint:\n{command('train', f'resume={shortest(folder)}')}"


def _can_go_on(folder: Path) -> bool:
    return bool(existing(folder, TO_RESUME))


def _is_job(folder: Path) -> bool:
    return (folder / "job.json").is_file()
