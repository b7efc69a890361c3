"""Write a run's report again: `python src/report.py run=<run folder> [baseline=<run folder>]`."""

import logging
from pathlib import Path

from fovea.cli.entry import entry  # isort: skip  # first, because it reports missing dependencies
from omegaconf import DictConfig

from fovea.cli.screen import log_loading
from fovea.runs import summary

log = logging.getLogger(__name__)


@entry("report", "run")
def main(cfg: DictConfig) -> None:
    """Write report.html from the files in the folder."""
    log_loading(f"reading {summary.short_path(cfg.run)}")
    from fovea import build
    from fovea.results import run_report

    folder = Path(cfg.run)
    against = run_report.compared(folder, cfg.baseline, lambda: build.tested_metrics(cfg))
    log.info("report: %s", summary.short_path(run_report.write(folder, against)))


if __name__ == "__main__":
    main()
