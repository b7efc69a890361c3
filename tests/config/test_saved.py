import resource
from pathlib import Path

import pytest
import yaml
from omegaconf import DictConfig, OmegaConf

from fovea.config import saved
from fovea.config.keys import names
from fovea.config.resolvers import register_resolvers


@pytest.fixture
def cfg(monkeypatch: pytest.MonkeyPatch) -> DictConfig:
    register_resolvers()
    monkeypatch.setattr("fovea.config.resolvers.conf_variables", lambda: {"A_FOLDER", "A_TOKEN"})
    return OmegaConf.create(
        {
            **{section: {} for section in names("parts")},
            "run_dir": "/somewhere/else",
            "data": {"image_size": 32, "root": "${oc.env:A_FOLDER,/data}"},
            "model": {"stem": "${stem_for:${data.image_size}}", "weights": "DEFAULT", "sizes": ["${data.image_size}"]},
            "augment": {"size": "${data.image_size}"},
            "callbacks": {"best": {"dirpath": "${run_dir}/checkpoints"}},
            "logger": {
                "x": {"api_key": "geheim", "token": "${oc.env:A_TOKEN,none}", "uri": "https://me:pass@host/x"},
                "y": {"note": "with geheim in it", "run": "${stamp:}"},
            },
            "weights": "/a/file.pth",
        }
    )


def test_the_config_is_saved_with_its_references_and_without_secrets(
    cfg: DictConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_TOKEN", "very secret")
    saved.save(cfg, tmp_path)
    content = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert content["data"]["root"] == "${oc.env:A_FOLDER,/data}"
    assert content["augment"]["size"] == "${data.image_size}"
    x = {"api_key": "***", "token": "${oc.env:A_TOKEN,none}", "uri": "https://me:***@host/x"}
    assert content["logger"]["x"] == x
    assert content["logger"]["y"]["note"] == "with *** in it"
    values = yaml.safe_load((tmp_path / "resolved.yaml").read_text())
    assert values["data"]["root"] == "/data"
    assert values["logger"]["x"] == x | {"token": "***"}
    for file in ("config.yaml", "resolved.yaml"):
        text = (tmp_path / file).read_text()
        assert not any(secret in text for secret in ("very secret", "geheim", "pass"))


def test_the_network_and_values_of_this_command_only_are_saved_resolved(cfg: DictConfig, tmp_path: Path) -> None:
    saved.save(cfg, tmp_path)
    content = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert content["model"] == {"stem": "small", "weights": "DEFAULT", "sizes": [32]}
    assert content["logger"]["y"]["run"] == cfg.logger.y.run


def test_a_full_disk_leaves_the_old_config(cfg: DictConfig, tmp_path: Path) -> None:
    saved.save(cfg, tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(OSError, match="File too large") as error:
            saved.save(cfg, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert Path(error.value.filename) in before
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_loaded_config_follows_its_folder_and_an_override_moves_what_depends_on_it(
    cfg: DictConfig, tmp_path: Path
) -> None:
    saved.save(cfg, tmp_path)
    loaded = OmegaConf.create(saved.load("run=x", tmp_path))
    assert loaded.callbacks.best.dirpath == f"{tmp_path}/checkpoints"
    loaded.data.image_size = 224
    assert loaded.augment.size == 224
    assert loaded.model.stem == "small"  # the network stays what was trained


def test_a_loaded_config_does_not_ask_for_starting_weights_again(cfg: DictConfig, tmp_path: Path) -> None:
    saved.save(cfg, tmp_path)
    loaded = saved.load("run=x", tmp_path)
    assert loaded["weights"] is None
    assert loaded["model"]["weights"] is None
    assert loaded["started_from"] == {"weights": "/a/file.pth", "model.weights": "DEFAULT"}
    again = saved.load("run=x", tmp_path, from_its_start=True)
    assert (again["weights"], again["model"]["weights"]) == ("/a/file.pth", "DEFAULT")


def test_values_from_the_environment_follow_the_machine(
    cfg: DictConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_FOLDER", "/then")
    saved.save(cfg, tmp_path)
    monkeypatch.setenv("A_FOLDER", "/now")
    assert OmegaConf.create(saved.load("run=x", tmp_path)).data.root == "/now"


def test_a_folder_of_this_machine_is_never_taken_from_a_file(cfg: DictConfig, tmp_path: Path) -> None:
    cfg.update({"runs_dir": "/a", "data_dir": "/b", "project_dir": "/c"})
    saved.save(cfg, tmp_path)
    loaded = saved.load("run=x", tmp_path)
    assert [loaded[key] for key in ("runs_dir", "data_dir", "project_dir")] == [
        *("${oc.env:RUNS_DIR,${project_dir}/runs}", "${oc.env:DATA_DIR,${project_dir}/data}", "${project_dir:}")
    ]
