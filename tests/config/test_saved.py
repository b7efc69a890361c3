import resource
from pathlib import Path

import pytest
import yaml
from omegaconf import DictConfig, OmegaConf

from fovea.config import saved
from fovea.config.resolvers import register_resolvers


@pytest.fixture
def cfg() -> DictConfig:
    register_resolvers()
    return OmegaConf.create(
        {
            "run_dir": "/somewhere/else",
            "data": {"image_size": 32, "root": "${oc.env:A_FOLDER,/data}"},
            "model": {"stem": "${stem_for:${data.image_size}}", "weights": "DEFAULT", "sizes": ["${data.image_size}"]},
            "augment": {"size": "${data.image_size}"},
            "callbacks": {"best": {"dirpath": "${run_dir}/checkpoints"}},
            "logger": {"x": {"api_key": "abc", "token": "${oc.env:A_TOKEN,none}", "uri": "https://me:pass@host/x"}},
            "weights": "/a/file.pth",
        }
    )


def test_the_file_holds_resolved_values_and_masks_secrets(
    cfg: DictConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_TOKEN", "very secret")
    saved.save(cfg, tmp_path / "config.yaml")
    text = (tmp_path / "config.yaml").read_text()
    content = yaml.safe_load(text)
    assert content["model"]["stem"] == "small"
    assert content["model"]["sizes"] == [32]
    assert content["data"]["root"] == "/data"
    assert content["logger"]["x"] == {
        "api_key": "***",
        "token": "${oc.env:A_TOKEN,none}",
        "uri": "https://me:***@host/x",
    }
    assert "very secret" not in text
    assert "pass" not in text


def test_a_full_disk_leaves_the_config_that_was_there(cfg: DictConfig, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    saved.save(cfg, file)
    before = file.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(OSError, match="File too large") as error:
            saved.save(cfg, file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert error.value.filename == str(file)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_a_loaded_config_follows_its_folder_and_an_override_moves_what_depends_on_it(
    cfg: DictConfig, tmp_path: Path
) -> None:
    saved.save(cfg, tmp_path / "config.yaml")
    loaded = OmegaConf.create(saved.load("run=x", tmp_path))
    assert loaded.callbacks.best.dirpath == f"{tmp_path}/checkpoints"
    loaded.data.image_size = 224
    assert loaded.augment.size == 224
    assert loaded.model.stem == "small"  # the network stays what was trained


def test_a_loaded_config_does_not_ask_for_starting_weights_again(cfg: DictConfig, tmp_path: Path) -> None:
    saved.save(cfg, tmp_path / "config.yaml")
    loaded = saved.load("run=x", tmp_path)
    assert loaded["weights"] is None
    assert loaded["model"]["weights"] is None


def test_what_comes_from_the_environment_stays_what_it_was(
    cfg: DictConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_FOLDER", "/then")
    saved.save(cfg, tmp_path / "config.yaml")
    monkeypatch.setenv("A_FOLDER", "/now")
    assert OmegaConf.create(saved.load("run=x", tmp_path)).data.root == "/then"
