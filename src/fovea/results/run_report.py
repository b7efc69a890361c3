"""Writes the report of a run or an evaluation, and compares it with another one."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from torchmetrics import Metric

from fovea.config.defaults import changed_keys
from fovea.report import prediction_file, thumbnail_file
from fovea.report.run import comparison, pair_section, run_page
from fovea.report.run.comparison import Comparison
from fovea.report.run.pair_section import Tested
from fovea.runs import summary

log = logging.getLogger(__name__)
Section = dict[str, Any]


@contextmanager
def written_at_the_end(folder: Path, compare: Callable[[], Comparison | None]) -> Iterator[None]:
    """Write the report of a run that began, when it ends in whatever way; a failure is only logged."""
    try:
        yield
    finally:
        if (folder / "config.yaml").is_file():
            write_or_warn(folder, compare)


def write_or_warn(folder: Path, compare: Callable[[], Comparison | None]) -> None:
    """Write the report, without the comparison if it fails; log failures, because the run itself went well."""
    try:
        against = compare()
    except (ValueError, OSError) as error:
        log.warning("the report compares with no other run: %s", error)
        against = None
    try:
        log.info("report: %s", summary.short_path(write(folder, against)))
    except (ValueError, OSError) as error:
        log.warning("the report can't be written: %s", error)
    except Exception:  # a fault of ours: a run that went well must not end as failed because of its page
        log.exception("the report can't be written")


def write(folder: Path, against: Comparison | None = None) -> Path:
    """Write report.html into the folder of a run or of an evaluation, from the files there, and return it.

    Raises:
        ValueError: a file is damaged.
        OSError: the report can't be written.
    """
    run = folder.parent.parent if folder.parent.name == "evaluate" else folder
    config = run / "config.yaml"
    content: dict[str, Any] = yaml.safe_load(config.read_text("utf-8")) if config.is_file() else {}
    return run_page.write(folder, run, changed_keys(content) if content else [], against)


def compared(folder: Path, baseline: str | None, metrics: Callable[[], Mapping[str, Metric]]) -> Comparison | None:
    """Compare the test predictions in `folder` with those in another one.

    Args:
        folder: of a run or of an evaluation.
        baseline: of the other; None: nothing is compared.
        metrics: builds those to compare.

    Raises:
        ValueError: one of them has no predictions, or they are of other images.
    """
    if not baseline:
        return None
    one, other = (prediction_file.of_test(place) for place in (folder, Path(baseline)))
    return comparison.compare(Path(baseline).name, one, other, metrics())


def pair(names: Sequence[str], folders: Sequence[Path], metrics: Mapping[str, Metric]) -> tuple[Section, Section]:
    """Return the section about two runs that were tested on the same images, and its images.

    Args:
        names: of the two runs.
        folders: of the two runs.
        metrics: to compare.

    Raises:
        ValueError: one of them has no predictions, or they are of other images.
    """
    runs = [Tested(n, prediction_file.of_test(f), thumbnail_file.read(f)) for n, f in zip(names, folders, strict=True)]
    one, other = runs
    against = comparison.compare(other.name, one.predictions, other.predictions, metrics)
    return pair_section.pair_section(runs, against)
