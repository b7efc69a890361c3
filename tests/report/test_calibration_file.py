"""What predictions take from a run's calibration.json."""

import json
from pathlib import Path

import pytest
import torch

from fovea.report.calibration_file import Fitted, Used, calibrated, other_use, read
from fovea.report.statistics.calibration import apply_temperature


def test_thresholds_of_calibrated_probabilities_choose_the_same_classes(tmp_path: Path) -> None:
    (tmp_path / "calibration.json").write_text(json.dumps({"temperature": 1.7, "thresholds": [0.3, 0.5, 0.8]}))
    fitted = read(tmp_path, "threshold=tuned")
    values = torch.rand(500, 3, generator=torch.Generator().manual_seed(0))
    after = calibrated(fitted, values, "multilabel")
    torch.testing.assert_close(after, apply_temperature(values, 1.7, "multilabel"))
    assert torch.equal(values > fitted.tuned(calibrated=False), after > fitted.tuned(calibrated=True))


def test_a_run_without_the_file_and_a_damaged_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="calibrated=true: .* has no calibration.json"):
        read(tmp_path, "calibrated=true")
    (tmp_path / "calibration.json").write_text('{"temperature": "hot"}')
    with pytest.raises(ValueError, match="calibration.json is damaged .temperature is hot."):
        read(tmp_path, "calibrated=true")


USED = Used("best.ckpt", 8, "/runs/a", "val/accuracy", 32)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        ({"checkpoint": "last.ckpt", "monitor": "val/f1"}, ""),  # the same weights
        ({"checkpoint": "last.ckpt", "step": 16}, "best.ckpt of step 8, not last.ckpt of step 16"),
        ({"step": 16}, "best.ckpt of step 8, not best.ckpt of step 16"),  # a run that was prolonged
        ({"run_dir": "/runs/b"}, "best.ckpt of step 8 of /runs/a, not best.ckpt of step 8 of /runs/b"),
        ({"monitor": "val/ema_loss"}, "the weights of monitor=val/accuracy, not of val/ema_loss"),
        ({"eval_image_size": 48}, "data.eval_image_size=32, not 48"),
    ],
)
def test_predictions_unlike_those_that_were_fitted_are_described(
    tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    content = {"temperature": 1.7, "fitted_to": USED._asdict()}
    (tmp_path / "calibration.json").write_text(json.dumps(content))
    assert other_use(read(tmp_path, "calibrated=true"), USED._replace(**changes)) == said  # type: ignore[arg-type]


@pytest.mark.parametrize("used", [None, {}, USED._asdict() | {"crop": 0.9}])
def test_nothing_is_said_about_a_file_of_another_version(tmp_path: Path, used: object) -> None:
    (tmp_path / "calibration.json").write_text(json.dumps({"temperature": 1.7, "fitted_to": used}))
    fitted = read(tmp_path, "calibrated=true")
    assert fitted == Fitted(1.7, None, None, None)
    assert other_use(fitted, USED) == ""
