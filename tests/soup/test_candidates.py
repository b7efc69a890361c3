"""Checkpoints of runs become candidates in the order of their monitor; those that don't belong together are refused."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tasks import network
from torch import Tensor

from fovea.soup.candidates import candidates, check_compatible, ordered

CONFIG: dict[str, Any] = {
    "task": "multiclass",
    "class_names": ["a", "b", "c"],
    "monitor": "val/accuracy",
    "mode": "max",
    "preprocess": {"mean": [0.5]},
    "cosine_scale": None,
    "model": {"_target_": "Net", "name": "vit", "activation": "relu", "dropout": 0.1},
}


def save(file: Path, value: float | None, changes: dict[str, Any] | None = None, **more: Any) -> Path:
    """Write a checkpoint with this value of the monitor."""
    config = CONFIG | (changes or {})
    file.parent.mkdir(parents=True, exist_ok=True)
    state = {f"network.{name}": tensor for name, tensor in network().state_dict().items()}
    logged = {} if value is None else {config["monitor"]: value}
    content = {"state_dict": state | {"loss.weight": torch.ones(1)}, "config": config, "running": {"logged": logged}}
    torch.save(content | more, file)
    return file


def run(folder: Path, value: float | None = 0.5, fingerprint: str = "x", **options: Any) -> Path:
    save(folder / "checkpoints" / "best.ckpt", value, **options)
    data = {"images": fingerprint, "counts": {"train": 9}, "bytes": "b", "contents": "c", "times": None}
    (folder / "provenance.json").write_text(json.dumps({"starts": [{"data_fingerprint": data}]}))
    return folder


def test_the_best_checkpoint_of_a_run_is_a_candidate_with_its_own_figure(tmp_path: Path) -> None:
    (one,) = candidates(run(tmp_path, 0.75), best=None)
    assert (one.value, one.file.name) == (0.75, "best.ckpt")
    expected = network().state_dict()
    weights = one.weights()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in weights)


def test_if_the_monitor_is_of_averaged_weights_these_are_taken(tmp_path: Path) -> None:
    averaged: dict[str, Tensor] = {name: tensor * 0.5 for name, tensor in network().state_dict().items()}
    changes = {"monitor": "val/swa_accuracy"}
    (one,) = candidates(run(tmp_path, changes=changes, state_dict_swa=averaged), best=None)
    assert all(torch.equal(one.weights()[name], averaged[name]) for name in averaged)


def test_the_best_of_a_runs_kept_checkpoints_are_chosen_by_their_figures(tmp_path: Path) -> None:
    for step, value in ((1, 0.1), (2, 0.9), (3, 0.5), (4, math.nan)):
        save(tmp_path / "checkpoints" / "top" / f"step_{step}.ckpt", value)
    assert [one.file.stem for one in candidates(tmp_path, best=2)] == ["step_2", "step_3"]
    assert [one.file.stem for one in candidates(tmp_path, best=4)] == ["step_2", "step_3", "step_1", "step_4"]
    with pytest.raises(ValueError, match=r"5 best checkpoints are asked for, and there are 4 .*\n.*save_top_k=5"):
        candidates(tmp_path, best=5)


def test_with_a_loss_the_lowest_is_the_first_and_an_unknown_one_the_last(tmp_path: Path) -> None:
    changes = {"monitor": "val/loss", "mode": "min"}
    runs = [run(tmp_path / f"{value}", value, changes=changes) for value in (0.9, 0.1, None)]
    (tmp_path / "None" / "results.json").write_text(json.dumps({"status": "finished", "best": {"value": None}}))
    found = ordered([one for folder in runs for one in candidates(folder, None)])
    assert [one.run.name for one in found] == ["0.1", "0.9", "None"]


def test_a_file_that_is_no_checkpoint_of_a_training_is_refused(tmp_path: Path) -> None:
    folder = run(tmp_path)
    torch.save({"x": torch.ones(1)}, folder / "checkpoints" / "best.ckpt")
    with pytest.raises(ValueError, match=r"best\.ckpt: this is not a checkpoint of a training"):
        candidates(folder, None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"changes": {"class_names": ["a", "c", "b"]}}, r"class_names is \['a', 'c', 'b'\]"),
        ({"changes": {"monitor": "val/loss"}}, "monitor is val/loss, and val/accuracy in"),
        ({"changes": {"preprocess": {"mean": [0.1]}}}, r"preprocess.mean is \[0.1\], and \[0.5\]"),
        ({"changes": {"model": {"_target_": "Other"}}}, "model._target_ is Other"),
        ({"changes": {"model": CONFIG["model"] | {"name": "vit_quickgelu"}}}, "model.name is vit_quickgelu"),
        ({"changes": {"model": CONFIG["model"] | {"activation": "gelu"}}}, "model.activation is gelu"),
        ({"changes": {"cosine_scale": 30.0}}, "cosine_scale is 30.0"),
        ({"state_dict": {"network.0.weight": torch.ones(2)}}, "only weights of the same network"),
        ({"fingerprint": "y"}, "the validation images of one may be training images of the other"),
    ],
)
def test_runs_that_do_not_belong_together_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    first, other = run(tmp_path / "one"), run(tmp_path / "other", **options)
    found = [*candidates(first, None), *candidates(other, None)]
    check_compatible([found[0], found[0]])
    with pytest.raises(ValueError, match=message):
        check_compatible(found)


def test_runs_with_other_dropout_may_be_averaged(tmp_path: Path) -> None:
    changes = {"model": CONFIG["model"] | {"dropout": 0.5}}
    runs = run(tmp_path / "one"), run(tmp_path / "other", changes=changes)
    check_compatible([one for folder in runs for one in candidates(folder, None)])


def test_one_checkpoint_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is only one checkpoint to average"):
        check_compatible(candidates(run(tmp_path), None))
