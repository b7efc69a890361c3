"""Features and heat maps are of the network whose predictions were tested, not always the trained one."""

import copy
import shutil
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from helpers import SMALL
from tasks import Data, make_batches, make_task, make_trainer
from torch import Tensor, nn

from fovea.callbacks.ema import EMA
from fovea.report import grad_cam
from fovea.results import suspect_labels

State = dict[str, Tensor]
Used = dict[str, list[State]]
AVERAGED = ("callbacks=[default,ema]", "callbacks.ema.decay=0.99999", "callbacks.ema.warmup=1", "optimizer.lr=0.1")


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> Used:
    """The weights of the networks whose features and heat maps are computed."""
    seen: Used = {"features_and_logits": [], "heat_maps": []}

    def spy(module: ModuleType, name: str) -> None:
        function = getattr(module, name)

        def call(network: nn.Module, *arguments: Any) -> Any:
            seen[name].append(copy.deepcopy(network.state_dict()))
            return function(network, *arguments)

        monkeypatch.setattr(module, name, call)

    spy(suspect_labels, "features_and_logits")
    spy(grad_cam, "heat_maps")
    return seen


def average_of(run: Path) -> State:
    """Return the average of best.ckpt, which is far from the trained weights, as it is nearly what they began as."""
    content = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    state = {name.removeprefix("network."): tensor for name, tensor in content["state_dict"].items()}
    average: State = content["state_dict_ema"]
    assert (state["conv1.weight"] - average["conv1.weight"]).norm() > 0.1 * average["conv1.weight"].norm()
    return average


def same(states: Sequence[State], expected: State) -> bool:
    return bool(states) and all(torch.equal(state[name], expected[name]) for state in states for name in expected)


def has_heat_maps(folder: Path) -> bool:
    with zipfile.ZipFile(folder / "thumbnails.zip") as archive:
        return any(name.startswith("heat/") for name in archive.namelist())


def test_a_report_shows_features_and_heat_maps_of_the_average_that_was_tested(
    invoke: Callable[..., Any], runs: Callable[[], list[Path]], folder: Path, used: Used
) -> None:
    """The images of val are the test too, so that nothing else is predicted after the test."""
    shutil.rmtree(folder / "test")
    words = ("data=folder", f"data.root={folder}", *SMALL, "report=true", "trainer.max_epochs=2")
    code, _, err = invoke("train", *words, *AVERAGED, "monitor=val/ema_loss")
    assert code == 0, err
    (run,) = runs()
    assert not (run / "val_predictions.csv").exists()
    expected = average_of(run)
    for name, states in used.items():
        assert same(states, expected), name
        states.clear()
    assert has_heat_maps(run)

    code, _, err = invoke("evaluate", f"run={run}", "report=true")
    assert code == 0, err
    assert same(used["heat_maps"], expected)
    (evaluated,) = run.glob("evaluate/*")
    assert has_heat_maps(evaluated)


@pytest.mark.parametrize("average", ["ema_", ""])
def test_the_tested_network_gives_the_tested_predictions(tmp_path: Path, average: str) -> None:
    data = Data(make_batches(4), make_batches(2, seed=9))
    trainer = make_trainer(EMA(), max_epochs=1)
    trainer.fit(make_task(), datamodule=data)
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    content = torch.load(tmp_path / "one.ckpt", weights_only=True)
    for tensor in content["state_dict_ema"].values():
        tensor.copy_(0.5 * tensor)  # batches are counted in whole numbers
    torch.save(content, tmp_path / "one.ckpt")

    task = make_task(monitor=f"val/{average}loss")
    make_trainer(EMA()).test(task, datamodule=data, ckpt_path=tmp_path / "one.ckpt", weights_only=True, verbose=False)
    images = torch.cat([batch.images for batch in data.val])
    logits = task.eval().tested_network(images.requires_grad_())
    probabilities = torch.cat([probabilities for probabilities, _, _ in task.tested])
    torch.testing.assert_close(task.probabilities(logits), probabilities)
    assert torch.autograd.grad(logits.sum(), images)[0].any()  # as a heat map needs it
    for name, tensor in task.network.state_dict().items():
        assert torch.equal(tensor, content["state_dict"][f"network.{name}"])
