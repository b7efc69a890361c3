"""An evaluation warns with their number about tested images that the run was trained on."""

import shutil
from pathlib import Path

import pytest
from conf_groups import composed
from helpers import make_folder
from omegaconf import DictConfig, OmegaConf

from evaluate import warn_if_trained_on
from fovea import build
from fovea.config import resume_rules, saved
from fovea.runs import provenance


def begun(folder: Path, *words: str) -> Path:
    """A run that was started, with the config and the provenance that a training writes."""
    cfg = composed(*words).copy()
    OmegaConf.set_struct(cfg, False)
    cfg.run_dir = str(folder)
    data = build.datamodule(cfg)
    folder.mkdir()
    saved.save(cfg, folder)
    provenance.add(folder, provenance.start(0, data.fingerprint(), 1))
    return folder


def warned(run: Path, caplog: pytest.LogCaptureFixture, *typed: str, split: str = "test") -> str:
    """The warnings of an evaluation of this run with these words."""
    cfg = DictConfig(saved.load("", run))
    for word in typed:
        key, _, value = word.partition("=")
        OmegaConf.update(cfg, key, OmegaConf.create(f"value: {value}").value)
    cfg.run = str(run)
    resume_rules.divide_as_trained(cfg, run, typed)
    data = build.datamodule(cfg, to_train=False)
    data.test_on(split)
    caplog.clear()
    warn_if_trained_on(cfg, data)
    return caplog.text


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "all", ("a", "b"), 20)


def test_the_run_as_it_was_divided_tests_no_image_that_it_was_trained_on(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = ("data=folder", f"data.root={root}", "data.folds=4", "data.fold=1", "data.val_fraction=0.2")
    assert warned(begun(tmp_path / "run", *words), caplog) == ""


def test_another_fold_or_seed_of_the_division_is_warned_about_with_the_number(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = ("data=folder", f"data.root={root}", "data.folds=4", "data.fold=1", "data.val_fraction=0.2")
    run = begun(tmp_path / "run", *words)
    cfg = DictConfig(saved.load("", run))
    trained = set(build.datamodule(cfg).splits["train"].paths)
    cfg.data.fold = 2
    seen = sum(path in trained for path in build.datamodule(cfg).splits["test"].paths)
    text = warned(run, caplog, "data.fold=2")
    assert seen > 0
    assert f"the run was trained on {seen} of the 10 tested images" in text
    assert "data.folds=4 data.fold=1" in text
    assert "the run was trained on" in warned(run, caplog, "data.split_seed=9")


def test_a_copy_of_data_with_splits_of_their_own_is_known(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The run had folds over train and val; of the copy, val is tested, as other data have no folds."""
    root = tmp_path / "data"
    for split, images in (("train", 12), ("val", 4)):
        make_folder(root / split, ("a", "b"), images)
    words = ("data=folder", f"data.root={root}", "data.folds=4", "data.fold=0", "data.val_fraction=0.2")
    run = begun(tmp_path / "run", *words)
    shutil.move(root, tmp_path / "moved")
    assert "of the 8 tested images" in warned(run, caplog, f"data.root={tmp_path / 'moved'}")


def test_groups_are_divided_again_to_know_a_copy(root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images = sorted(path.relative_to(root) for path in root.rglob("*.*"))
    rows = [f"{path},{path.parent},{n % 10}" for n, path in enumerate(images)]
    (root / "labels.csv").write_text("\n".join(["path,label,patient", *rows]), encoding="utf-8")
    division = ("data.group_column=patient", "data.val_fraction=0.2", "data.test_fraction=0.2")
    run = begun(tmp_path / "run", "data=csv", f"data.root={root}", *division)
    shutil.move(root, tmp_path / "moved")
    text = warned(run, caplog, f"data.root={tmp_path / 'moved'}")
    assert "of the 40 tested images" in text
    assert "data.group_column=patient" in text


def test_other_data_are_not_warned_about(root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    words = ("data=folder", f"data.root={root}", "data.val_fraction=0.2", "data.test_fraction=0.3")
    run = begun(tmp_path / "run", *words)
    other = make_folder(tmp_path / "other", ("a", "b"), 20, seed=1)
    assert warned(run, caplog, f"data.root={other}") == ""
    few = make_folder(tmp_path / "few", ("a",), 1)
    assert warned(run, caplog, f"data.root={few}") == ""


@pytest.mark.parametrize("place", ["", "checkpoints/best.ckpt", "checkpoints/top/step_3.ckpt"])
def test_a_training_from_a_run_with_the_same_images_divided_in_another_way_is_warned(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, place: str
) -> None:
    words = ("data=folder", f"data.root={root}", "data.val_fraction=0.2", "data.test_fraction=0.3")
    run = begun(tmp_path / "run", *words)
    cfg = DictConfig(saved.load("", run))
    resume_rules.warn_if_divided_otherwise(cfg, "weights", run / place)
    cfg.data.limit_per_class = 3
    resume_rules.warn_if_divided_otherwise(cfg, "weights", run / place)
    assert "divided" not in caplog.text
    cfg.data.split_seed = 3
    resume_rules.warn_if_divided_otherwise(cfg, "weights", run / place)
    assert "divided in another way (data.split_seed: 0 then, 3 now)" in caplog.text
    caplog.clear()
    cfg.data.root = str(tmp_path)
    resume_rules.warn_if_divided_otherwise(cfg, "weights", run / place)
    (tmp_path / "config.yaml").write_text("not: a run's")
    resume_rules.warn_if_divided_otherwise(cfg, "weights", tmp_path / "weights.pth")
    assert "divided" not in caplog.text
