"""A compiled network computes what it did before, under the same names, in training, evaluation and after resuming."""

import copy
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import SMALL
from lightning import Callback
from tasks import Data, make_batches, make_task, make_trainer, network
from torch import Tensor, nn
from torch._dynamo.utils import counters

from fovea.callbacks.ema import EMA
from fovea.callbacks.swa import SWA
from fovea.callbacks.unfreeze import Unfreeze
from fovea.models.features import features_and_logits
from fovea.objectives.sharpness_aware import sharpness_aware
from fovea.speed.compile_callback import CompileNetworks
from fovea.speed.compiled_network import CompiledCall, compile_network, uncompile
from fovea.training.save_last import SaveLast

FULL, REST = torch.randn(5, 3, 4, 4), torch.randn(3, 3, 4, 4)


def is_compiled(network: nn.Module) -> bool:
    return isinstance(network._compiled_call_impl, CompiledCall)


@pytest.fixture(autouse=True)
def _a_fresh_compiler() -> None:
    torch.compiler.reset()
    counters.clear()


def compiled_frames() -> int:
    """How many pieces of code torch has compiled since the test began."""
    return counters["stats"]["unique_graphs"]


def test_names_logits_gradients_and_statistics_stay_the_same() -> None:
    plain = network().to(memory_format=torch.channels_last)
    plain[3] = nn.Identity()  # dropout draws other numbers in compiled code
    compiled = copy.deepcopy(plain)
    compile_network(compiled, batch_sizes=[5], backend="aot_eager")
    for net in (plain, compiled):
        net(FULL).square().sum().backward()
    assert compiled_frames() == 1
    assert list(compiled.state_dict()) == list(plain.state_dict())
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name], tensor)
    for ours, theirs in zip(compiled.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_a_smaller_last_batch_runs_uncompiled() -> None:
    net = network().eval()
    expected = net(REST), net(FULL)
    compile_network(net, batch_sizes=[5], backend="eager")
    with torch.inference_mode():
        torch.testing.assert_close((net(REST), net(FULL)), expected)
        assert compiled_frames() == 1
        assert net(torch.cat([FULL, FULL])).shape == (10, 3)
        assert net(FULL[:0]).shape == (0, 3)
    assert compiled_frames() == 2  # of 5 and of 10 images


def test_batches_of_every_size_of_the_training_are_compiled_and_of_the_last_one_in_evaluations() -> None:
    net, images = network(), torch.randn(7, 3, 4, 4)
    compile_network(net, batch_sizes=[2, 5, 7], backend="eager")
    for size in (2, 5, 7, 3):
        net(images[:size])
    assert compiled_frames() == 3
    for size in (2, 5, 7):
        net.eval()(images[:size])
    assert compiled_frames() == 3 + 1


def test_more_shapes_are_compiled_than_torch_would_by_default() -> None:
    net = network()
    compile_network(net, batch_sizes=[2], backend="eager")
    for count in range(1, 13):
        net(torch.randn(2 * count, 3, 4, 4))
    assert compiled_frames() == 12


def test_an_objective_may_replace_the_weights_of_a_compiled_network() -> None:
    plain = network()
    plain[3] = nn.Identity()
    compiled, target = copy.deepcopy(plain), torch.tensor([0, 1, 2, 0, 1])
    compile_network(compiled, batch_sizes=[5], backend="eager")
    for net in (plain, compiled):
        sharpness_aware(net, FULL, target, nn.functional.cross_entropy, rho=0.5)[0].backward()
    for ours, theirs in zip(compiled.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
    assert compiled_frames() == 2  # with the network's own weights, and with those nearby


def test_copies_are_not_compiled_and_hooks_work_after_uncompile() -> None:
    net = network().eval()
    compile_network(net, batch_sizes=[5], backend="eager")
    assert is_compiled(net)
    assert not is_compiled(copy.deepcopy(net))
    net(FULL)
    uncompile(net)
    assert features_and_logits(net, FULL)[0].shape == (5, 36)


def test_the_time_of_each_compilation_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    net = network()
    compile_network(net, batch_sizes=[5], backend="eager")
    with caplog.at_level(logging.INFO):
        net(FULL)
        net(FULL)
        net.eval()(FULL)
    assert [line.split(" on ")[0] for line in caplog.messages] == [
        "compiled the network for training",
        "compiled the network for evaluation",
    ]


def test_a_missing_compiler_is_an_error_that_says_what_to_type() -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("No working C++ compiler found")

    net = network()
    compile_network(net, batch_sizes=[5], backend=broken)
    with pytest.raises(ValueError, match="No working C.. compiler found(.|\n)*type compile=false"):
        net(FULL)


class StopWithin(Callback):
    """Asks for a stop while the second epoch is under way."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.current_epoch == 1 and batch_idx == 1:
            saver = next(callback for callback in trainer.callbacks if isinstance(callback, SaveLast))
            saver.signals.number = 15


def fit(task: Any, folder: Path, *callbacks: Any, checkpoint: Path | None = None) -> Any:
    options: dict[str, Any] = {"max_epochs": 2, "enable_checkpointing": True}
    parts = [EMA(decay=0.5), *callbacks, CompileNetworks([5], backend="aot_eager"), SaveLast(str(folder))]
    trainer = make_trainer(*parts, **options)
    data = Data(make_batches(4), [*make_batches(2), make_batches(1, size=3)[0]])
    trainer.fit(task, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    trainer.test(task, datamodule=data)
    return trainer


def states(folder: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    content = torch.load(folder / "last.ckpt", weights_only=True)
    return content["state_dict"], content["state_dict_ema"]


@pytest.mark.slow
def test_a_compiled_training_with_averaged_weights_is_resumed_exactly(tmp_path: Path) -> None:
    """Two epochs at once, and stopped within the second: all weights and the average are bit for bit the same."""
    task = make_task()
    fit(task, tmp_path / "whole")
    assert compiled_frames() == 5  # training; the network and its average, both in validations and in the test
    assert not is_compiled(task.network)
    whole = states(tmp_path / "whole")
    assert not [name for state in whole for name in state if "_orig_mod" in name]
    with pytest.raises(SystemExit):
        fit(make_task(), tmp_path / "stopped", StopWithin())
    shutil.copy(tmp_path / "stopped" / "last.ckpt", tmp_path / "from.ckpt")
    fit(make_task(), tmp_path / "stopped", checkpoint=tmp_path / "from.ckpt")
    for ours, theirs in zip(states(tmp_path / "stopped"), whole, strict=True):
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


class Calls(Callback):
    """Records, when a validation starts, whether the average is compiled already."""

    def __init__(self) -> None:
        self.early: list[bool] = []

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        self.early += [is_compiled(average) for average in pl_module.also_evaluated.values()]


def test_an_average_is_compiled_while_it_is_evaluated_only(caplog: pytest.LogCaptureFixture) -> None:
    """Between validations a callback may recompute its BatchNorm statistics, which changes layers' modes."""
    calls = Calls()
    trainer = make_trainer(EMA(), calls, CompileNetworks([5], backend="eager"), max_epochs=3)
    with caplog.at_level(logging.INFO):
        trainer.fit(make_task(), datamodule=Data(make_batches(2), make_batches(1)))
    assert calls.early == [False] * 3
    assert len([line for line in caplog.messages if "compiled the network for evaluation" in line]) == 2


class Trained(Callback):
    """Records for each training batch whether the trained network is compiled."""

    def __init__(self) -> None:
        self.compiled: list[bool] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.compiled.append(is_compiled(pl_module.network))


def test_a_network_whose_average_has_not_begun_is_trained_compiled_after_a_validation_too() -> None:
    """Until its average begins, SWA evaluates the trained network as its average."""
    trained = Trained()
    trainer = make_trainer(SWA(after_step=5), trained, CompileNetworks([5], backend="eager"), max_epochs=4)
    trainer.fit(make_task(), datamodule=Data(make_batches(2), make_batches(1)))
    assert trained.compiled == [True] * 8


def test_a_part_that_is_frozen_for_some_epochs_is_trained_afterwards_in_compiled_code_too() -> None:
    """The convolution is no module whose mode changes, so only its gradient tells the compiled code."""
    task = make_task()
    before = task.network[0].weight.detach().clone()
    trainer = make_trainer(Unfreeze([("0", 1)]), CompileNetworks([5], backend="aot_eager"), max_epochs=2)
    trainer.fit(task, datamodule=Data(make_batches(2), make_batches(1)))
    assert not torch.equal(task.network[0].weight, before)


def test_an_evaluation_uses_compiled_code_for_full_batches_only(caplog: pytest.LogCaptureFixture) -> None:
    data = Data(make_batches(1), [*make_batches(2), make_batches(1, size=3)[0]])
    plain, compiled = make_trainer(), make_trainer(CompileNetworks([5], backend="eager"))
    expected = plain.test(make_task(), datamodule=data, verbose=False)
    with caplog.at_level(logging.INFO):
        measured = compiled.test(make_task(), datamodule=data, verbose=False)
    assert measured[0] == pytest.approx(expected[0])
    assert len([line for line in caplog.messages if "compiled the network for evaluation" in line]) == 1


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
def test_a_training_with_torchs_own_compiler_has_the_figures_of_an_uncompiled_one(
    invoke: Callable[..., tuple[int, str, str]], runs: Callable[[], list[Path]], folder: Path
) -> None:
    data = ("data=folder", f"data.root={folder}", *SMALL, "callbacks=[default,ema]")
    for words in ((), ("compile=true",)):
        code, _, err = invoke("train", *data, *words)
        assert code == 0, err
    plain, compiled = (json.loads((run / "results.json").read_text())["test"] for run in runs())
    assert compiled["loss"] == pytest.approx(plain["loss"], rel=1e-3)
    assert "compiled the network for training" in (runs()[1] / "train.log").read_text()
