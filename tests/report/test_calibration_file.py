"""What predictions take from a run's calibration.json."""

import json
from pathlib import Path

import pytest
import torch

from fovea.report.calibration_file import calibrated, read
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
