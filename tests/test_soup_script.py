"""`python scripts/soup.py <folder> ...`: the folder that it writes is evaluated and loaded like a run's."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import SMALL
from omegaconf import OmegaConf
from safetensors.torch import load_file
from torch import Tensor

from fovea.config.resolvers import CONF
from fovea.load_run import load_run
from fovea.models.weights.fill import load_weights
from fovea.models.weights.weights_file import read_weights

Invoke = Callable[..., tuple[int, str, str]]
SOUP = "../scripts/soup"


def network_of(run: Path) -> dict[str, Tensor]:
    state = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    return {name.removeprefix("network."): value for name, value in state.items() if name.startswith("network.")}


def variant(run: Path, name: str, change: Callable[[Tensor], Tensor], value: float) -> Path:
    """Copy the run, change the weights of its best checkpoint, and say that its monitor had this value."""
    copy = Path(shutil.copytree(run, run.with_name(name)))
    file = copy / "checkpoints" / "best.ckpt"
    content = torch.load(file, weights_only=True)
    for key, tensor in content["state_dict"].items():
        if key.startswith("network.") and tensor.is_floating_point():
            content["state_dict"][key] = change(tensor)
    content["running"]["logged"]["val/accuracy"] = value
    torch.save(content, file)
    return copy


@pytest.fixture
def runs_of_one_network(trained: Path) -> list[Path]:
    """The run, one that is nearly the same, and one with ruined weights that claims to be better than it."""
    return [
        variant(trained, "good", lambda tensor: tensor, 1.0),
        variant(trained, "near", lambda tensor: tensor * 1.001, 0.5),
        variant(trained, "ruined", lambda tensor: tensor * -3, 0.75),
    ]


@pytest.mark.slow
def test_a_greedy_soup_is_a_run_folder_of_the_mean_of_what_was_added(
    invoke: Invoke, runs_of_one_network: list[Path], tmp_path: Path
) -> None:
    output = tmp_path / "a soup é"
    options = ("--batch-norm", "average", "--output", str(output))
    code, out, err = invoke(SOUP, *map(str, runs_of_one_network), *options, "data.num_workers=0")
    assert (code, err) == (0, "")
    about: dict[str, Any] = json.loads((output / "soup.json").read_text())
    tried = {Path(one["run"]).name: one for one in about["candidates"]}
    assert list(tried) == ["good", "ruined", "near"]  # by the monitor that the checkpoints recorded
    assert [one["added"] for one in tried.values()] == [True, False, True]
    assert about["value"] == tried["near"]["average"] >= tried["good"]["average"] > tried["ruined"]["average"]
    assert ["ruined" in line for line in out.splitlines() if "left out" in line] == [True]
    assert "src/evaluate.py 'run=" in out

    added = [network_of(run) for run in runs_of_one_network[:2]]
    weights = load_file(output / "soup.safetensors")
    for name, tensor in weights.items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, (added[0][name] + added[1][name]) / 2)
    assert read_weights(output / "soup.safetensors").class_names == ["cat", "dog", "owl"]
    loaded = load_run(output, "cpu")
    assert all(torch.equal(tensor, weights[name]) for name, tensor in loaded.network.state_dict().items())
    assert not load_weights(loaded.network, output / "soup.safetensors", loaded.class_names).not_loaded

    code, _, err = invoke("evaluate", f"run={output}", "report=false", "split=val")
    assert code == 0, err
    (results,) = output.glob("evaluate/*/results.json")
    assert json.loads(results.read_text())["test"]["accuracy"] == pytest.approx(about["value"])
    code, _, err = invoke("train", f"rerun={output}")
    assert code == 2
    assert "its weights are an average" in err


@pytest.mark.slow
def test_the_best_checkpoints_of_a_run_are_averaged_for_a_monitor_of_averaged_weights(
    invoke: Invoke, runs: Callable[[], list[Path]], folder: Path, tmp_path: Path
) -> None:
    words = ("data=folder", f"data.root={folder}", *SMALL, "trainer.max_epochs=4", "monitor=val/ema_loss")
    assert invoke("train", *words, "callbacks=[default,ema,top_k]", "callbacks.ema.decay=0.5")[0] == 0
    (run,) = runs()
    assert len(list((run / "checkpoints" / "top").glob("*.ckpt"))) == 3
    code, _, err = invoke(SOUP, "last", "--best", "2", "--uniform")
    assert code == 0, err
    (output,) = (tmp_path / "runs" / "soup").iterdir()
    about = json.loads((output / "soup.json").read_text())
    assert (about["monitor"], about["rule"], about["batch_norm"]) == ("val/loss", "uniform", "recompute")
    averaged = [torch.load(one["checkpoint"], weights_only=True)["state_dict_ema"] for one in about["candidates"]]
    weights = load_file(output / "soup.safetensors")
    name = "conv1.weight"
    torch.testing.assert_close(weights[name], (averaged[0][name] + averaged[1][name]) / 2)
    code, _, err = invoke("evaluate", f"run={output}", "report=false", "split=val")
    assert code == 0, err
    (results,) = output.glob("evaluate/*/results.json")
    figures = json.loads(results.read_text())["test"]
    assert figures["loss"] == figures["ema_loss"] == pytest.approx(about["value"], rel=1e-5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--best", "3"], "3 best checkpoints are asked for, and there are 0"),
        (["--best", "0"], "--best 0: give at least 1"),
        ([], "there is only one checkpoint to average"),
    ],
)
def test_what_can_not_be_averaged_is_an_error_of_few_lines(
    invoke: Invoke, trained: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    code, out, err = invoke(SOUP, str(trained), *words)
    assert code == 2
    assert message in err
    assert len((out + err).splitlines()) <= 5
    assert not (tmp_path / "runs" / "soup").exists()


def test_data_that_are_gone_are_an_error(invoke: Invoke, runs_of_one_network: list[Path]) -> None:
    code, _, err = invoke(SOUP, *map(str, runs_of_one_network), "data.root=nowhere")
    assert code == 2
    assert "nowhere" in err


def test_distilled_runs_are_averaged_without_their_teacher(invoke: Invoke, runs_of_one_network: list[Path]) -> None:
    *folders, _ = runs_of_one_network
    for run in folders:
        for file in (run / "config.yaml", run / "resolved.yaml"):
            cfg = OmegaConf.load(file)
            cfg.objective = OmegaConf.load(CONF / "objective" / "distillation.yaml")
            cfg.objective.teacher = str(run.parent / "gone")
            OmegaConf.save(cfg, file)
    code, out, err = invoke(SOUP, *map(str, folders), "--batch-norm", "average", "data.num_workers=0")
    assert code == 0, err
    assert out.count(" added ") == 2


def test_overrides_without_a_run_are_an_error(invoke: Invoke) -> None:
    code, _, err = invoke(SOUP, "data.root=photos")
    assert code == 2
    assert "name the folders of runs" in err
