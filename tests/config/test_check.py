"""A training is checked, when it begins, for values that later commands would refuse."""

from collections.abc import Iterator
from pathlib import Path

import hydra
import pytest
from omegaconf import DictConfig

from fovea.config import resolvers
from fovea.config.check import check, values_to_retype
from fovea.config.resolvers import CONF, register_resolvers

MINE = "+callbacks.mine={_target_: lightning.pytorch.callbacks.ModelCheckpoint, dirpath: %s}"


@pytest.fixture(autouse=True)
def conf_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    register_resolvers()
    yield
    resolvers.conf_texts.cache_clear()


def composed(tmp_path: Path, *words: str) -> DictConfig:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = hydra.compose("train", [f"data.root='{tmp_path}'", *words])
    cfg.run_dir = str(tmp_path / "run")
    return cfg


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("loss._target_=os.system", r"loss\._target_=os\.system: .*\n.*in a yaml of conf/"),
        ("trainer.strategy=deepspeed_stage_2", "trainer.strategy=deepspeed_stage_2"),
        ("data.progressive.start=8", r"start=8 needs data\.progressive\.epochs too"),
        ("data.progressive.epochs=8", r"epochs=8 needs data\.progressive\.start too"),
        ("data.progressive.batch_size=4", r"batch_size=4 needs data\.progressive\.epochs too"),
        ("data.progressive={start: 16, epochs: 3}", r"start=16 must be below data\.image_size=16"),
        ("+mixing.probability=1.5", r"mixing\.probability=1\.5: input should be less than or equal to 1"),
        (
            "+callbacks.progress.api_token=${oc.env:MY_TOKEN}",
            r"MY_TOKEN} reads a variable that no yaml.*\nName it in a",
        ),
        ("+callbacks.progress.x='${oc.decode:null}'", r"oc\.decode"),
    ],
)
def test_what_later_commands_would_refuse_is_refused_when_the_training_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str, said: str
) -> None:
    monkeypatch.setenv("MY_TOKEN", "geheimnis123")
    with pytest.raises(ValueError, match=said):
        check(composed(tmp_path, word), "train")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trainer.gradient_clip_algorithm=value"], r"has no effect without trainer\.gradient_clip_val"),
        (["trainer.gradient_clip_algorithm=agc", "trainer.gradient_clip_val=1"], "should be 'norm' or 'value'"),
        (
            ["trainer.gradient_clip_val=1", "trainer.precision=16-mixed", "optimizer=adamw_small"],
            r"type optimizer\.fused=false",
        ),
    ],
)
def test_gradients_that_can_not_be_clipped_as_asked_are_an_error(tmp_path: Path, words: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check(composed(tmp_path, *words), "train")
    check(composed(tmp_path, *words, "trainer.gradient_clip_val=null", "trainer.gradient_clip_algorithm=null"), "train")


def test_images_that_grow_to_another_size_than_the_trainings_crop_has_are_an_error(tmp_path: Path) -> None:
    words = ("data.progressive={start: 8, epochs: 3}", "augment.train.crop.size=12")
    with pytest.raises(ValueError, match=r"crop\.size=12: type data\.image_size=12 instead"):
        check(composed(tmp_path, *words), "train")
    check(composed(tmp_path, *words, "data.image_size=12"), "train")
    check(composed(tmp_path, words[1]), "train")


def test_compiling_and_checkpointing_together_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="keep one of them"):
        check(composed(tmp_path, "compile=true", "gradient_checkpointing=true"), "train")
    check(composed(tmp_path, "compile=true"), "train")


def test_values_to_type_again_are_listed_when_the_training_begins(tmp_path: Path) -> None:
    assert values_to_retype(composed(tmp_path)) == []
    assert values_to_retype(composed(tmp_path, MINE % "'${run_dir}/mine'")) == []
    (place,) = values_to_retype(composed(tmp_path, MINE % "/elsewhere"))
    assert place.startswith("callbacks.mine.dirpath=/elsewhere is outside of the run's folder")
    (secret,) = values_to_retype(composed(tmp_path, "+logger.csv.api_token=geheimnis123"))
    assert secret.startswith("logger.csv.api_token is a secret")
    assert "geheimnis" not in secret


def test_a_place_that_conf_names_need_not_be_typed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.yaml").write_text(
        "dirpath: /elsewhere\nfolder: ${oc.env:MY_PLACE}/x\nroot: /data\nruns: ${oc.env:RUNS_DIR} ${oc.env:DATA_DIR}\n"
    )
    monkeypatch.setattr(resolvers, "CONF", tmp_path)
    monkeypatch.setenv("MY_PLACE", "/my/place")
    resolvers.conf_texts.cache_clear()
    for place in ("/elsewhere", "/elsewhere/deeper", "/my/place/x"):
        assert values_to_retype(composed(tmp_path, MINE % place)) == []
    for place in ("/data", "/elsewhere/../etc", "/my"):
        assert len(values_to_retype(composed(tmp_path, MINE % place))) == 1
