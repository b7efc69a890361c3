"""A file of predictions gives back exactly what was written."""

from pathlib import Path

import pytest
import torch

from fovea.report import prediction_file
from fovea.report.prediction_file import Predictions, read, write

NAMES = ["cat, 'big'", 'dog;"wolf"', "p(owl)", "<script>", "été\ncold"]


def predictions(task: str, images: int = 7) -> Predictions:
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(images, 5, generator=generator)
    paths = [f'/mes données/{n}, "x".png' for n in range(images)]
    if task == "multiclass":
        values = values.softmax(1) ** 9  # of many sizes
        return Predictions("multiclass", NAMES, paths, torch.arange(images) % 5, values)
    return Predictions("multilabel", NAMES, paths, (torch.arange(images * 5) % 3 - 1).reshape(-1, 5).char(), values)


def assert_same(one: Predictions, other: Predictions | None) -> None:
    assert other is not None
    assert (one.task, list(one.class_names), list(one.paths)) == (other.task, other.class_names, other.paths)
    assert one.labels.dtype == other.labels.dtype
    assert torch.equal(one.labels, other.labels)
    assert one.probabilities.dtype == other.probabilities.dtype
    assert torch.equal(one.probabilities, other.probabilities)


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("images", [0, 7])
def test_what_is_written_is_read_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str, suffix: str, images: int
) -> None:
    monkeypatch.setattr(prediction_file, "MOST_IMAGES", images - 1 if suffix == ".parquet" else 100)
    written = predictions(task, images)
    assert write(tmp_path, "predictions", written).name == f"predictions{suffix}"
    assert_same(written, read(tmp_path, "predictions"))


def test_a_path_that_is_no_text_is_kept(tmp_path: Path) -> None:
    odd = Predictions("multiclass", ["a", "b"], ["/x/\udcff.png"], torch.tensor([1]), torch.tensor([[0.5, 0.5]]))
    write(tmp_path, "predictions", odd)
    assert_same(odd, read(tmp_path, "predictions"))


def test_there_is_never_a_second_file_in_another_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "predictions", predictions("multiclass"))
    monkeypatch.setattr(prediction_file, "MOST_NUMBERS", 1)
    write(tmp_path, "predictions", predictions("multiclass"))
    assert [file.name for file in tmp_path.iterdir()] == ["predictions.parquet"]
    assert read(tmp_path, "val_predictions") is None


def test_without_pyarrow_a_large_file_is_csv(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(prediction_file, "MOST_NUMBERS", 1)
    monkeypatch.setattr(prediction_file.importlib.util, "find_spec", lambda name: None)
    assert write(tmp_path, "predictions", predictions("multilabel")).suffix == ".csv"
    assert "pip install" in caplog.text


@pytest.mark.parametrize(
    "text", ["", "path,label\n", "path,label,p(a)\nx,b,1\n", "path,label,p(a)\nx,a,many\n", "path,label,p(a)\nx\n"]
)
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "predictions.csv").write_text(text)
    with pytest.raises(ValueError, match=r"predictions.csv is damaged .*: run src/evaluate.py for a new one"):
        read(tmp_path, "predictions")
