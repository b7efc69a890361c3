"""Makes the files of runs that a leaderboard shows."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

SECTIONS = (
    "preprocess",
    "loss",
    "optimizer",
    "parameter_groups",
    "scheduler",
    "metrics",
    "per_class_metrics",
    "augment",
)
CONFIG = {
    **{name: {"_target_": "torch.nn.Identity"} for name in SECTIONS},
    **{name: {} for name in ("data", "model", "callbacks", "logger", "mixing", "checkpoint")},
    "trainer": {"max_epochs": 1},
    "monitor": "val/accuracy",
    "mode": "max",
    "seed": 0,
}


def write_run(
    folder: Path,
    best: float | None = 0.9,
    test: dict[str, float | None] | None = None,
    config: dict[str, Any] | None = None,
    argv: Sequence[Sequence[str]] = (("src/train.py",),),
    job: dict[str, Any] | None = None,
    data: str = "d1",
    **results: Any,
) -> Path:
    """Write results.json, config.yaml, provenance.json and, for a job of a sweep, job.json."""
    folder.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {
        "status": "finished",
        "monitor": "val/accuracy",
        "best": {"value": best},
        "seconds": 10.0,
    }
    content |= {"test": {"accuracy": 0.8, "loss": 0.5} if test is None else test}
    (folder / "results.json").write_text(json.dumps(content | results))
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG | (config or {})))
    starts = [{"argv": list(words), "data_fingerprint": {"images": data}} for words in argv]
    (folder / "provenance.json").write_text(json.dumps({"starts": starts}))
    if job:
        (folder / "job.json").write_text(json.dumps(job))
    return folder
