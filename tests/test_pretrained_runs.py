"""Runs that start from published weights, with a file of random weights in the place of a download."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from fovea.load_run import load_run
from fovea.models.preprocessing import Preprocessing
from fovea.parts import network_parts

Invoke = Callable[..., Any]
OTHER = Preprocessing(32, 32, 32, "bicubic", [0.0, 0.0, 0.0], [1.0, 1.0, 1.0])


def resolved(run: Path) -> dict[str, Any]:
    """What a run's resolved.yaml says of its preprocessing."""
    cfg = OmegaConf.load(run / "resolved.yaml")
    places = ("data.image_size", "augment.eval.crop.resize", "augment.train.crop.interpolation", "preprocess.mean")
    return {place: OmegaConf.select(cfg, place) for place in places}


@pytest.mark.slow
def test_every_command_on_a_run_uses_the_preprocessing_that_its_first_start_took_from_the_weights(
    invoke: Invoke, folder: Path, runs: Callable[[], list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timm = pytest.importorskip("timm")
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "w.pth")
    overlay = {"file": str(tmp_path / "w.pth")}
    monkeypatch.setattr(timm, "create_model", partial(timm.create_model, pretrained_cfg_overlay=overlay))
    words = ("data=folder", f"data.root='{folder}'", "model=timm", "model.name=test_resnet", "model.weights=DEFAULT")
    small = ("data.batch_size=8", "data.num_workers=0", "trainer=cpu", "trainer.max_epochs=1", "report=false")
    done = invoke("train", *words, *small, "augment.train.crop.interpolation=bicubic")
    assert done.code == 0, done.err
    (run,) = runs()
    log = (run / "train.log").read_text()
    assert log.count("taken: data.image_size=160") == 1
    assert "not taken: augment.train.crop.interpolation=bicubic (typed" in log
    own = {
        **{"data.image_size": 160, "augment.eval.crop.resize": 168},
        **{"augment.train.crop.interpolation": "bicubic", "preprocess.mean": [0.5, 0.5, 0.5]},
    }
    assert resolved(run) == own

    target = "fovea.models.from_timm.build_timm"
    monkeypatch.setitem(network_parts.PREPROCESSING, target, lambda name, weights: OTHER)  # a later version of timm
    assert invoke("evaluate", f"run={run}", "report=false").code == 0
    (evaluation,) = (run / "evaluate").iterdir()
    assert resolved(evaluation) == own
    loaded = load_run(run, "cpu")
    assert loaded.augment.crop.size == 160
    assert loaded.preprocess(torch.zeros(1, 3, 4, 4, dtype=torch.uint8)).unique().tolist() == [-1.0]
    assert invoke("train", f"rerun={run}").code == 0
    assert resolved(runs()[-1]) == own
    assert invoke("train", f"resume={run}", "trainer.max_epochs=2").code == 0
    assert resolved(run) == own
    new = invoke("train", *words, *small)
    assert new.code == 0, new.err
    assert resolved(runs()[-1])["data.image_size"] == 32
