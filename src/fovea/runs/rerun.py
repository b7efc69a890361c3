"""Logs, before a rerun, what may make its results differ, and compares them with the first run's afterwards."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fovea.runs import provenance
from fovea.runs.bit_differences import differences
from fovea.runs.run_folder import write_json

log = logging.getLogger(__name__)


def warn_about_changes(of: Path, entry: dict[str, Any], changed_values: Sequence[str]) -> None:
    """Warn about everything that may make the results differ from those of the run in `of`.

    Args:
        of: the folder of the first run.
        entry: the rerun's entry for provenance.json.
        changed_values: differences between the configs.
    """
    starts = provenance.starts(of)
    data = provenance.changed_data(of, entry["data_fingerprint"])
    lines = [f"the config: {text}" for text in changed_values] + [f"the data: {data.text}" for data in [data] if data]
    lines += dict.fromkeys(change for start in starts for change in provenance.changes(start, entry))
    lines += [] if starts else ["the first run has no provenance.json"]
    lines += [f"force=true changed the first run's {text}" for start in starts for text in start.get("forced", [])]
    for line in lines:
        log.warning("not as in the first run: %s", line)
    log.info(
        "repeating %s, %s", of, "with the differences listed above" if lines else "with the same code, data and machine"
    )


def check_identical(of: Path, folder: Path) -> None:
    """Compare the results of both runs, log the outcome and write it to rerun.json in `folder`.

    Raises:
        SystemExit: with code 1, if anything differs.
    """
    found = differences(of, folder)
    write_json(folder / "rerun.json", {"of": str(of), "identical": not found, "differences": found})
    if not found:
        log.info("identical to %s: test figures, metrics.csv and checkpoints, bit for bit", of)
        return
    log.warning("not identical to %s:\n%s", of, "\n".join(f"  {line}" for line in found))
    raise SystemExit(1)
