"""Compare runs, sweeps or evaluations: `python src/compare.py <folder> [<folder> ...]`.

Prints a table of their figures and writes leaderboard.csv and leaderboard.html, with the curves and the differences
of the configs. Of two runs that were tested on the same images, it also shows which images only one has right, and
paired tests.
"""

import argparse
import os
from pathlib import Path

from fovea.cli.entry import prepared  # isort: skip  # first, because it reports missing dependencies
from fovea.cli.named_run import LAST, last_run
from fovea.cli.screen import terminal_width
from fovea.config.resolvers import PROJECT, stamp
from fovea.leaderboard import leaderboard
from fovea.leaderboard.entries import Entry, find
from fovea.leaderboard.groups import grouped
from fovea.leaderboard.leaderboard_page import Pair

LONGEST_NAME = 30  # characters: of overrides that name a run


def main() -> None:
    """Read the command line, print the table and write the page."""
    typed = parser().parse_args()
    with prepared():
        folders = [last_run("run") if folder == LAST else Path(folder).expanduser() for folder in typed.folders]
        compare(folders, typed.output or (folders[0] if len(folders) == 1 else new_folder()))


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("folders", nargs="+", metavar="folder", help="of a run, a sweep, an evaluation; or last")
    where = "where to write; default: the folder, or of several a new one in RUNS_DIR"
    made.add_argument("--output", type=Path, metavar="folder", help=where)
    return made


def new_folder() -> Path:
    """Return a new folder for a comparison."""
    return Path(os.environ.get("RUNS_DIR") or PROJECT / "runs") / "compare" / stamp()


def compare(folders: list[Path], output: Path) -> None:
    """Compare the runs in these folders.

    Raises:
        ValueError: a folder has no run, or a file of a run is damaged.
        OSError: the output can't be written.
    """
    entries = find(folders)
    print(leaderboard.text(entries, terminal_width()))
    pair, note = compared_images(entries)
    output.mkdir(parents=True, exist_ok=True)
    title = folders[0].resolve().name if len(folders) == 1 else f"{len(entries)} runs"
    finished = sum(entry.status == "finished" for entry in entries)
    pooled = pooled_folds(entries, output)
    sentences = [f"{finished} of {len(entries)} runs are finished.", *([note] if note else []), *pooled]
    page = leaderboard.write(output, title, sentences, entries, pair)
    print(f"leaderboard: {page}")


def compared_images(entries: list[Entry]) -> tuple[Pair | None, str]:
    """Compare the test predictions of two runs; return why not if they are of other images, and print both."""
    if len(entries) != 2 or not all(entry.test for entry in entries):
        return None, ""
    from fovea.load_run import load_metrics
    from fovea.report.run.pair_section import pair_text
    from fovea.results import run_report

    try:
        metrics = load_metrics(entries[0].folder)
        pair = run_report.pair(names_of(entries), [entry.folder for entry in entries], metrics)
    except ValueError as error:
        note = f"The test images are not compared: {error}"
        print(note)
        return None, note
    print(pair_text(pair[0]))
    return pair, ""


def pooled_folds(entries: list[Entry], output: Path) -> list[str]:
    """Pool the folds of cross-validations among the runs; print and return sentences about them, or why not."""
    if all(entry.config.get("data.folds") is None for entry in entries):
        return []
    from fovea.load_run import load_metrics
    from fovea.results.pooled_folds import pool

    try:
        lines = pool(entries, output, load_metrics)
    except ValueError as error:
        lines = [str(error)]
    print("\n".join(lines))
    return lines


def names_of(entries: list[Entry]) -> list[str]:
    """Return what tells the two runs apart: their overrides, or their folders if these are the same or long."""
    labels = [group.label for entry in entries for group in grouped(entries) if entry in group.entries]
    short = labels[0] != labels[1] and max(map(len, labels)) <= LONGEST_NAME
    return labels if short else [entry.name for entry in entries]


if __name__ == "__main__":
    main()
