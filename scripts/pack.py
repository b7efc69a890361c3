"""Pack a dataset for fast reading: `python scripts/pack.py data=folder data.root=<folder> output=<folder>`."""

import logging
import sys
from pathlib import Path
from typing import Any

from fovea.cli.entry import entry  # isort: skip  # first, because it reports missing dependencies
from omegaconf import DictConfig

from fovea.cli.stage_bar import StageBar

log = logging.getLogger(__name__)


@entry("pack")
def main(cfg: DictConfig) -> None:
    """Write the store and verify it; with verify=true only verify an existing one."""
    from fovea import build
    from fovea.data.store.encode import Format
    from fovea.data.store.pack import Source, pack

    output = Path(cfg.output).expanduser().absolute()
    if cfg.verify:
        read_back(output, cfg.num_workers)
        return
    if cfg.data.get("store"):
        raise ValueError(f"data.store={cfg.data.store}: stores are packed from image files: type data.store=null")
    data = build.datamodule(cfg)
    own = cfg.data
    source = Source(data.task, data.class_names, data.splits, own.get("root"), own.on_error, own.get("group_column"))
    background = None if cfg.format == "files" else list(cfg.data.background)
    options = Format(cfg.format, cfg.short_side, cfg.long_side, cfg.quality, background)
    log.info("packing %d images into %s", len(source), output)
    with StageBar() as bar:
        about = pack(source, options, output, cfg.num_workers, bar.update)
    log.info(describe(about, output))


def read_back(store: Path, processes: int) -> None:
    """Raise ValueError if a part of a finished store is damaged."""
    from fovea.data.store.store import read_metadata
    from fovea.data.store.verify import verify

    about = read_metadata(store)
    with StageBar() as bar:
        damaged = verify(store, about, processes, lambda done: bar.update("verifying", done, about["images"]))
    if damaged is not None:
        raise ValueError(f"{damaged} is damaged: copy it again, or pack again into another folder")
    log.info("%d images, all as they were packed, in %s", about["images"], store)


def describe(about: dict[str, Any], output: Path) -> str:
    """Return the last lines of the log, from the contents of store.json."""
    splits = {bounds[0]: f"{bounds[1] - bounds[0]:,} {split}" for split, bounds in reversed(about["splits"].items())}
    done = "packed before, and verified now" if about.get("packed_before") else "packed and verified"
    lines = [f"{done}: {', '.join(reversed(splits.values()))} images, {about['bytes'] / 1e6:,.1f} MB, in {output}"]
    unreadable = about["unreadable"]
    if unreadable["count"]:
        more = ", ..." if unreadable["count"] > len(unreadable["first"]) else ""
        lines.append(f"{unreadable['count']} couldn't be read and are empty: {', '.join(unreadable['first'])}{more}")
    return "\n".join([*lines, f"train with data.store={output}"])


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("stopped: the same command continues; the images packed so far are kept", file=sys.stderr)
        raise SystemExit(130) from None
