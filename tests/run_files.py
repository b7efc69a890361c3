"""Makes the files of a run that its report is made of."""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from fovea.report import prediction_file, thumbnail_file
from fovea.report.prediction_file import Predictions
from fovea.report.run import gallery
from fovea.report.suspects import Row, write_suspects

SCRIPT = "<script>alert(1)</script>"
METRICS = """step,epoch,lr-SGD/pg1,train/loss_step,train/loss,val/loss,train/accuracy,val/accuracy,val/ema_accuracy
9,0,0.1,,,,,,
99,0,,,1.5,1.4,0.5,0.55,0.6
199,1,0.05,,1.0,nan,0.97,0.81,0.85
"""


def predictions(task: Literal["multiclass", "multilabel"], classes: int, images: int, seed: int = 0) -> Predictions:
    """Return predictions that are mostly right; a class and a file have HTML in their names."""
    generator = torch.Generator().manual_seed(seed)
    names = [f"class {k}" for k in range(classes)]
    names[1] = SCRIPT
    paths = [f"/data/{SCRIPT if n == 3 else 'photos'}/{n:05}.jpg" for n in range(images)]
    logits = torch.randn(images, classes, generator=generator)
    if task == "multiclass":
        labels = torch.arange(images) % classes
        logits[torch.arange(images), labels] += 4
        logits[torch.arange(images), (labels + 1) % classes] += 2
        return Predictions(task, names, paths, labels, logits.softmax(1))
    present = (torch.rand(images, classes, generator=generator) < 0.3).char()
    present[torch.rand(images, classes, generator=generator) < 0.1] = -1
    return Predictions(task, names, paths, present, (logits + 4 * (present == 1) - 2).sigmoid())


def make_run(folder: Path, tested: Predictions | None, **results: Any) -> Path:
    """Write the files of a run that has these test predictions."""
    folder.mkdir(parents=True)
    content = {"status": "finished", "monitor": "val/accuracy", "network": "SEResNet", "parameters": 1234, "epochs": 2}
    content |= {"steps": 200, "seconds": 90.0, "test": {"accuracy": 0.9, "loss": 0.3}, "phases": {"steps": 80.0}}
    content |= {"best": {"checkpoint": "checkpoints/best.ckpt", "epoch": 1, "step": 200, "value": 0.81}}
    content |= {"intervals": {"accuracy": [0.85, 0.94]}, "majority": {"accuracy": 0.1}}
    (folder / "results.json").write_text(json.dumps(content | results))
    start = {"time": "2026-11-26T10:00:00", "argv": ["src/train.py", "data.root=<b>"], "seed": 0}
    start |= {"data_fingerprint": {"counts": {"train": 1000}}, "versions": {"torch": "2.15"}, "hardware": {}, "git": {}}
    (folder / "provenance.json").write_text(json.dumps({"starts": [start]}))
    (folder / "metrics.csv").write_text(METRICS)
    if tested is None:
        return folder
    prediction_file.write(folder, "predictions", tested)
    fitted: dict[str, Any] = {"temperature": 1.5, "reject": {"threshold": 0.6, "coverage": 0.9, "accuracy": 0.99}}
    if tested.task == "multilabel":
        fitted = {"temperature": 0.7, "thresholds": [0.4] * len(tested.class_names)}
    (folder / "calibration.json").write_text(json.dumps(fitted))
    shown, pixels = gallery.choose(tested), np.random.default_rng(0)
    small = {f"test/{row}": _picture(pixels) for row in shown.rows()}
    small |= {f"heat/{row}": _picture(pixels) for row in shown.mistakes}
    thumbnail_file.write(folder, small | {name: _picture(pixels) for name in ("input/0", "suspect/0")})
    suspect = Row(f"{SCRIPT}/1.jpg", "train", SCRIPT, "class 0", 0.9)
    write_suspects(folder / "suspects.csv", [suspect, suspect._replace(split="val", score=0.8)])
    (folder / "input.json").write_text(json.dumps({"labels": [SCRIPT]}))
    return folder


def _picture(pixels: np.random.Generator) -> bytes:
    return thumbnail_file.thumbnail(torch.from_numpy(pixels.integers(0, 255, (3, 30, 40), dtype=np.uint8)))
