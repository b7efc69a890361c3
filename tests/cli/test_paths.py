"""Paths are text: they are used exactly as typed."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import hydra
import pytest
from helpers import SMALL, make_folder
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from fovea.cli.paths import make_absolute, quoted, value_of, with_value
from fovea.config.resolvers import CONF, register_resolvers

NAMES = [
    *("2024", "2024_01_05", "1e3", "true", "off", "0123", "1_000.5", "nan", "-1", "a b", " a ", "été", "日本", "a,b"),
    *("a=b", "photos (1)", "[2024] x", "[", "{x}", "-x", "~x", "l'été", "'tis", 'an "x"', "50%", "a#b", "a:b", "@"),
    *("C:\\new\\", "C:\\a'b", "\\\\server\\share", "a\\,b", "a\\=b", "s3://bucket/key", "$RECYCLE.BIN", "\\", "a\\'"),
]
KEYS = [
    *("data.root", "data.store", "data.store_cache", "data.read.csv", "data.read.train_annotations", "weights"),
    *(
        "data.sampler.file",
        "data.corrections",
        "model.weights",
        "ckpt_path",
        "resume",
        "rerun",
        "run",
        "source",
        "output",
        "task_name",
    ),
    *("data.read.label_column", "data.read.year", "data.read.train_list", "hydra.run.dir", "hydra.sweep.dir"),
    *("model.name", "+data.read.cache", "callbacks.last.dirpath", "logger.tensorboard.save_dir"),
]


def read(word: str) -> object:
    return OverridesParser.create().parse_override(word).value()


@pytest.mark.parametrize("name", NAMES)
def test_a_path_keeps_every_character_that_was_typed(name: str) -> None:
    assert read(quoted(f"data.root={name}")) == name
    assert value_of(with_value("data.root", name)) == name


@pytest.mark.parametrize("key", KEYS)
def test_every_key_of_a_path_or_name_is_text(key: str) -> None:
    assert read(quoted(f"{key}=2024_01_05")) == "2024_01_05"


@pytest.mark.parametrize("word", ["seed=2024", "data.num_workers=null", "data.image_size=1e3", "+data.read.x=true"])
def test_other_values_are_read_as_hydra_reads_them(word: str) -> None:
    assert quoted(word) == word


@pytest.mark.parametrize(
    ("typed", "value"),
    [("null", None), ("", ""), ("'a b'", "a b"), ('"1"', "1"), ("str(7)", "7"), ("${data_dir}/x", "${data_dir}/x")],
)
def test_null_nothing_quotes_and_expressions_keep_their_meaning(typed: str, value: str | None) -> None:
    assert read(quoted(f"data.root={typed}")) == value


def test_false_is_a_boolean_for_the_split_column_and_text_for_other_columns() -> None:
    assert read(quoted("data.read.split_column=false")) is False
    assert read(quoted("data.read.label_column=false")) == "false"


def test_a_sweep_splits_paths_at_commas() -> None:
    found = read(quoted("data.root=2024, 2024_01_05,'a,b',l'été,b's", sweeps=True))
    assert [getattr(one, "text", one) for one in found.list] == ["2024", "2024_01_05", "a,b", "l'été", "b's"]  # type: ignore[attr-defined]
    assert read(quoted("data.root=a,b")) == "a,b"


def test_the_home_folder_and_variables_are_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/users/a b")
    monkeypatch.setenv("SCRATCH", "/s")
    for typed in ("~/x", "$HOME/x", "${HOME}/x"):
        assert read(quoted(f"hydra.run.dir={typed}")) == "/users/a b/x"
    assert read(quoted("source=a/$SCRATCH")) == "a//s"
    assert read(quoted("data.root=~no-such-user/x")) == "~no-such-user/x"
    assert read(quoted("data.read.label_column=~")) == "~"


@pytest.mark.parametrize("path", ["$NOT_SET/x", "${NOT_SET}"])
def test_a_path_below_a_variable_that_is_not_set_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="hydra.run.dir=.* the environment has no variable NOT_SET"):
        quoted(f"hydra.run.dir={path}")


def test_relative_paths_are_made_absolute_from_the_folder_of_the_command(tmp_path: Path) -> None:
    (tmp_path / "x.pth").touch()
    cfg = OmegaConf.create(
        {
            "data": {"root": "photos", "store": "s3://bucket/x", "sampler": {"file": None}},
            "model": {"weights": "x.pth", "ckpt_path": "DEFAULT"},
            "weights": "/abs.pth",
            "source": "~/new",
        }
    )
    make_absolute(cfg, tmp_path)
    assert cfg.data == {"root": str(tmp_path / "photos"), "store": "s3://bucket/x", "sampler": {"file": None}}
    assert cfg.model == {"weights": str(tmp_path / "x.pth"), "ckpt_path": "DEFAULT"}
    assert (cfg.weights, cfg.source) == ("/abs.pth", os.path.expanduser("~/new"))


def test_the_composed_config_has_the_path_as_typed() -> None:
    register_resolvers()
    words = [quoted(f"data.root={name}") for name in ("1e3", "2024_01_05")]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        assert [hydra.compose("train", [word]).data.root for word in words] == ["1e3", "2024_01_05"]


@pytest.mark.slow
def test_relative_paths_hold_where_each_job_runs_in_its_own_folder(
    invoke: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("2024", "1e3"):
        make_folder(tmp_path / name)
    own = "hydra.job.chdir=true"
    words = ("data=folder", *SMALL, own, "hydra.sweep.dir=2024_01_06")
    assert invoke("train", "-m", "data.root=2024,1e3", *words)[0] == 0
    assert invoke("train", "resume=2024_01_06/1", "trainer.max_epochs=2", own)[0] == 0
    assert invoke("evaluate", "run=2024_01_06/1/checkpoints/last.ckpt", "data.root=2024", own)[0] == 0
    (results,) = (tmp_path / "2024_01_06" / "1" / "evaluate").glob("*/results.json")
    assert json.loads(results.read_text())["checkpoint"] == str(tmp_path / "2024_01_06/1/checkpoints/last.ckpt")
    assert invoke("predict", "run=2024_01_06/1", "source=2024/cat", "output=new/1.csv", own)[0] == 0
    assert len((tmp_path / "new" / "1.csv").read_text().splitlines()) == 1 + 12
