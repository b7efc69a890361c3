"""Logs the end of a program: what was tested, the classes with the lowest figures, and commands to use next."""

import logging
import math
import os
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fovea.runs.checkpoint_names import TO_EVALUATE, TO_RESUME, existing
from fovea.runs.figure_names import average_of, prefix

log = logging.getLogger(__name__)
RANKED_BY = ("f1", "average_precision")  # classes are ranked by the first of these that exists
MOST = 5  # classes


def tested_text(results: Mapping[str, Any], checkpoint: Path | None, images: int, split: str, asked: str) -> str:
    """Return `tested best.ckpt (epoch 9, step 351, val/accuracy 0.9778) on 359 test images`.

    Args:
        results: the run's results.json.
        checkpoint: the tested checkpoint; None: the last weights of a training without a best checkpoint.
        images: the number of images that were read.
        split: the split that was tested: train, val, test or all.
        asked: the split that was asked for; if the data lacks it, another one was tested.
    """
    best, about = results.get("best"), ""
    if best and checkpoint and best["checkpoint"] == f"{checkpoint.parent.name}/{checkpoint.name}":
        about = f" (epoch {best['epoch'] + 1}, step {best['step']}, {results['monitor']} {_figure(best['value'])})"
    weights = checkpoint.name if checkpoint else "the last weights (there is no best checkpoint)"
    unit = "images, all of the data" if split == "all" else f"{split} images"
    reason = "" if split == asked else f", as the data has no {asked} split"
    return f"tested {weights}{about} on {images:,} {unit}{reason}"


def figures_table(split: str, figures: Mapping[str, float], intervals: Mapping[str, Sequence[float] | None]) -> str:
    """Return a line for each figure, below a header.

    test       value  95 % interval
    accuracy  0.9944  0.9861 to 1.0000
    loss      0.0276

    Args:
        split: the split that was tested.
        figures: its figures, by name.
        intervals: (low, high) of some of them; if there are none, the table has no column for them.
    """
    width = max(map(len, [split, *figures]))
    column = "  95 % interval" if any(intervals.values()) else ""
    lines = [f"{split:{width}}  {'value':>6}{column}"]
    for name, value in sorted(figures.items()):
        interval = intervals.get(name)
        text = f"  {interval[0]:.4f} to {interval[1]:.4f}" if interval else ""
        lines.append(f"{name:{width}}  {_figure(value):>6}{text}")
    return "\n".join(lines)


def _figure(value: float | None) -> str:
    return "undefined" if value is None or math.isnan(value) else f"{value:.4f}"


def lowest_text(class_names: Sequence[str], per_class: Mapping[str, Iterable[Any]], average: str) -> str:
    """Return `lowest f1: dog (0.8125)  cat (0.9000)`; an empty text if no class has a figure below 1.

    Args:
        class_names: the K classes.
        per_class: {metric: (K,)} as in per_class.csv; nan if undefined.
        average: the averaged weights whose figures are used; "" for the trained weights.
    """
    multilabel = "average_precision" in per_class
    metrics = RANKED_BY[::-1] if multilabel else RANKED_BY
    name = next((full for metric in metrics if (full := prefix(average) + metric) in per_class), None)
    if name is None:
        return ""
    values = [(float(value), k) for k, value in enumerate(per_class[name])]
    worst = sorted(pair for pair in values if pair[0] < 1)[: min(MOST, math.ceil(len(class_names) / 2))]
    return f"lowest {name}: " + "  ".join(f"{class_names[k]} ({value:.4f})" for value, k in worst) if worst else ""


def short_path(path: str | Path) -> str:
    """Return the path, relative to the current folder if that is shorter."""
    try:
        return min(str(path), os.path.relpath(path), key=len)
    except (ValueError, OSError):  # another drive, or the current folder was deleted
        return str(path)


def command(program: str, *words: str) -> str:
    """Return `python src/<program>.py <words>` for the shell, with Python and the folder as they were typed."""
    script = Path(sys.argv[0]).with_name(f"{program}.py")
    return shlex.join([short_path(sys.orig_argv[0]), short_path(script), *words])


def next_commands(folder: Path, prolonging: str) -> list[str]:
    """Return the commands that a finished run's files allow; none for a job of a sweep.

    Args:
        folder: the run's.
        prolonging: the override that prolongs the run, or an empty text.
    """
    run, commands = short_path(folder), list[str]()
    if _is_job(folder):
        return commands
    if existing(folder, TO_EVALUATE):
        commands += [command("evaluate", f"run={run}"), command("predict", f"run={run}", "source=photos")]
    if (folder / "tensorboard").is_dir():
        commands.append(shlex.join(["tensorboard", "--logdir", run]))
    if prolonging and _can_resume(folder):
        commands.append(command("train", f"resume={run}", prolonging))
    return commands


def log_figures(
    split: str, results: Mapping[str, Any], class_names: Sequence[str], per_class: Mapping[str, Any], monitor: str
) -> None:
    """Log the figures of a test, `test` and `intervals` of results.json, and the classes with the lowest figures."""
    table = figures_table(split, results["test"], results.get("intervals") or {})
    log.info(table, extra={"screen": table})
    worst = lowest_text(class_names, per_class, average_of(monitor))
    if worst:
        log.info(worst)


def log_next_commands(commands: Sequence[str]) -> None:
    """Log the commands, one a line, without wrapping them on a terminal, so that they can be copied."""
    if commands:
        text = "\n".join(["next:", *commands])
        log.info(text, extra={"screen": text})


def prolonging_override(max_epochs: int | None, max_steps: int) -> str:
    """Return the override that doubles a run's length; an empty text if the run has no limit."""
    if max_steps > 0:
        return f"trainer.max_steps={2 * max_steps}"
    return f"trainer.max_epochs={2 * max_epochs}" if max_epochs and max_epochs > 0 else ""


def resume_hint(folder: Path) -> str:
    """Return the command that resumes an unfinished run; an empty text if it can't, and for a job of a sweep."""
    if _is_job(folder) or not _can_resume(folder):
        return ""
    return f"to go on from the last checkpoint:\n{command('train', f'resume={short_path(folder)}')}"


def _can_resume(folder: Path) -> bool:
    return bool(existing(folder, TO_RESUME))


def _is_job(folder: Path) -> bool:
    return (folder / "job.json").is_file()
