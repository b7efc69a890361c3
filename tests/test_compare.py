"""`python src/compare.py <folder> [<folder> ...]`: runs side by side, and two runs image by image."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from board_files import write_run

from compare import names_of
from fovea.leaderboard.entries import find
from fovea.report import prediction_file

Invoke = Callable[..., tuple[int, str, str]]


@pytest.fixture
def other(trained: Path) -> Path:
    """A second run, whose first three test images have turned probabilities."""
    copy = Path(shutil.copytree(trained, trained.with_name("second one é")))
    tested = prediction_file.read(copy, "predictions")
    turned = tested.probabilities.clone()
    turned[:3] = turned[:3].roll(1, dims=1)
    prediction_file.write(copy, "predictions", replace(tested, probabilities=turned))
    return copy


def test_two_runs_are_compared_image_by_image(invoke: Invoke, trained: Path, other: Path, tmp_path: Path) -> None:
    code, out, err = invoke("compare", str(trained), str(other))
    assert (code, err) == (0, "")
    assert "first against second one é, on the same test images" in out
    page = Path(out.rpartition("leaderboard: ")[2].strip())
    assert page.parent.parent == tmp_path / "runs" / "compare"
    first, second = (prediction_file.read(run, "predictions") for run in (trained, other))
    right = [(run.probabilities.argmax(1) == run.labels).tolist() for run in (first, second)]
    only = [sum(a and not b for a, b in zip(*pair, strict=True)) for pair in (right, right[::-1])]
    assert f"only first is right on {only[0]}, only second one é on {only[1]}" in out
    text = page.read_text("utf-8")
    assert f"Only second one é is right: {only[1]} image" in text
    assert "..%2F" not in text
    assert "../../train/second%20one%20%C3%A9/report.html" in text
    assert (page.parent / "leaderboard.csv").is_file()


def test_other_test_images_are_named_and_only_the_table_is_shown(invoke: Invoke, trained: Path, other: Path) -> None:
    tested = prediction_file.read(other, "predictions")
    prediction_file.write(other, "predictions", tested.take(list(range(5))))
    code, out, _ = invoke("compare", str(trained.parent))
    assert code == 0
    assert "The test images are not compared: the runs were tested on different images" in out
    page = trained.parent / "leaderboard.html"
    assert out.endswith(f"leaderboard: {page}\n")
    assert "are not compared" in page.read_text("utf-8")


def test_the_images_are_not_compared_if_a_config_builds_no_metrics(invoke: Invoke, trained: Path, other: Path) -> None:
    config = trained / "config.yaml"
    config.write_text(config.read_text("utf-8").replace("\nseed: ", "\nseed: -1"), "utf-8")
    code, out, _ = invoke("compare", str(trained.parent))
    assert code == 0
    assert "The test images are not compared: seed=-" in out
    assert (trained.parent / "leaderboard.html").is_file()


def test_figures_of_averaged_weights_are_named_like_those_of_the_results(
    invoke: Invoke, trained: Path, other: Path
) -> None:
    for run in (trained, other):
        config = yaml.safe_load((run / "config.yaml").read_text("utf-8"))
        config["callbacks"]["ema"] = {"_target_": "fovea.callbacks.ema.EMA"}
        (run / "config.yaml").write_text(yaml.safe_dump(config | {"monitor": "val/ema_accuracy"}), "utf-8")
    code, out, _ = invoke("compare", str(trained.parent))
    assert (code, "not compared" in out) == (0, False)
    lines = out.partition("against")[2].splitlines()
    assert [line.split()[0] for line in lines[2:4]] == ["ema_accuracy", "ema_f1"]


def test_runs_with_many_overrides_are_named_by_their_folders(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for words in (["x=1"], ["optimizer.weight_decay=0.001", "trainer.max_epochs=50"]):
            argv = ["train.py", *(f"{word}{name}" for word in words)]
            write_run(tmp_path / str(len(words)) / name, config={"model": {"name": name}}, argv=[argv])
    assert names_of(find([tmp_path / "1"])) == ["x=1a", "x=1b"]
    assert names_of(find([tmp_path / "2"])) == ["a", "b"]


def test_a_run_without_a_test_and_last_are_accepted(invoke: Invoke, trained: Path, other: Path, tmp_path: Path) -> None:
    results = other / "results.json"
    content = json.loads(results.read_text()) | {"status": "interrupted", "best": None}
    results.write_text(json.dumps({key: value for key, value in content.items() if key != "test"}))
    (trained / "config.yaml").touch()
    code, out, _ = invoke("compare", "last", str(other), "--output", str(tmp_path / "here"))
    assert code == 0
    assert "interrupted" in out
    assert "against" not in out
    assert (tmp_path / "here/leaderboard.html").is_file()


def test_wrong_folders_are_named_in_a_few_lines(invoke: Invoke, tmp_path: Path) -> None:
    code, _, err = invoke("compare", str(tmp_path / "none"))
    assert code == 2
    assert err.startswith(f"error: {tmp_path / 'none'} has no run")
    code, _, err = invoke("compare")
    assert code == 2
    assert "folder" in err
