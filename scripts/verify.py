"""Read every image of a dataset and report what is wrong: `python scripts/verify.py data=folder data.root=<folder>`."""

import logging
import sys
import time
from pathlib import Path

from fovea.cli.entry import entry  # isort: skip  # first, because it reports missing dependencies
from omegaconf import DictConfig

from fovea.cli.stage_bar import StageBar
from fovea.runs.summary import short_path

log = logging.getLogger(__name__)


@entry("verify")
def main(cfg: DictConfig) -> None:
    """Read the images, compare them, and write the findings."""
    from fovea import build
    from fovea.data.check.dataset_check import Options, check_dataset, summary
    from fovea.data.check.findings import write_findings
    from fovea.data.check.image_facts import gather_facts
    from fovea.data.index import distinct
    from fovea.files import write_safely

    data = build.datamodule(cfg, to_train=False)
    splits, start = distinct(data.splits), time.monotonic()
    total = sum(map(len, splits.values()))
    with StageBar() as bar:
        facts = gather_facts(splits, data.background, cfg.data.num_workers, lambda n: bar.update("reading", n, total))
    seconds = time.monotonic() - start
    options = Options(cfg.data.image_size, cfg.near_distance, cfg.near_correlation, cfg.least_images)
    check = check_dataset(facts, data.task, data.class_names, options)
    text = summary(facts, check, data.root)
    output = Path(cfg.output)
    output.mkdir(parents=True, exist_ok=True)
    write_findings(output / "findings.csv", check.findings)
    write_safely(output / "summary.txt", text + "\n")
    log.info(
        "%s\n\nread in %.1f s, %s images/s; all findings: %s",
        text,
        seconds,
        f"{total / seconds:,.0f}",
        short_path(output),
    )
    if cfg.strict and (check.leaks or check.unreadable):
        log.error("strict=true: %d unreadable images, %d clusters across splits", check.unreadable, check.leaks)
        raise SystemExit(1)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("stopped before the check was complete: nothing was written", file=sys.stderr)
        raise SystemExit(130) from None
