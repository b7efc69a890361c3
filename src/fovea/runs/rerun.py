"""A run that repeats another one: what may make it differ is said before, and whether it does after."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fovea.runs import provenance
from fovea.runs.compare import differences
from fovea.runs.run_folder import write_json

log = logging.getLogger(__name__)


def say_beforehand(of: Path, entry: dict[str, Any], other_values: Sequence[str]) -> None:
    """Warn of everything that may make the repetition of the run in `of` another one.

    Args:
        entry: the repetition's of provenance.json.
        other_values: what its config has otherwise.
    """
    before = provenance.starts(of)
    data = provenance.other_data(of, entry["data_fingerprint"])
    lines = [f"the config: {text}" for text in other_values] + [f"the data: {data.text}" for data in [data] if data]
    lines += dict.fromkeys(change for start in before for change in provenance.changes(start, entry))
    lines += [] if before else ["the first run has no provenance.json"]
    lines += [f"force=true changed the first run's {text}" for one in before for text in one.get("forced", [])]
    for line in lines:
        log.warning("not as in the first run: %s", line)
    log.info("repeating %s, %s", of, "which differs as said" if lines else "with the same code, data and machine")


def say_whether_identical(of: Path, folder: Path) -> None:
    """Compare what both runs ended with, say it, and write it to rerun.json in `folder`.

    Raises:
        SystemExit: 1, where anything differs.
    """
    found = differences(of, folder)
    write_json(folder / "rerun.json", {"of": str(of), "identical": not found, "differences": found})
    if not found:
        log.info("identical to %s: test figures, metrics.csv and checkpoints, bit for bit", of)
        return
    log.warning("not identical to %s:\n%s", of, "\n".join(f"  {line}" for line in found))
    raise SystemExit(1)
