"""The average equals a plain loop over the weights of every step; its figures are logged and its weights saved."""

import copy
import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import SMALL
from lightning import Callback
from tasks import Data, batch, make_batches, make_task, make_trainer, network
from torch import Tensor, nn
from torch.nn import functional as F

from fovea.callbacks.ema import EMA, decay_at
from fovea.models.se_resnet import SEResNet
from fovea.models.weights.fill import load_weights

State = dict[str, Tensor]


def test_the_decay_rises_to_its_final_value() -> None:
    assert [decay_at(t, 0.5, 10) for t in (0, 2, 8, 100)] == [1 / 10, 3 / 12, 0.5, 0.5]
    assert decay_at(0, 0.9, warmup=1) == 0.9


class Steps(Callback):
    """Records the network's tensors after each optimizer step."""

    def __init__(self) -> None:
        self.states: list[State] = []
        self.seen = 0

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        if trainer.global_step > self.seen:
            self.seen = trainer.global_step
            self.states.append(copy.deepcopy(pl_module.network.state_dict()))


def by_hand(start: State, states: list[State], decay: float) -> State:
    average = {key: tensor.double() for key, tensor in start.items()}
    for t, state in enumerate(states, start=1):
        d = min(decay, (1 + t) / (10 + t))
        for key in average:
            average[key] = d * average[key] + (1 - d) * state[key].double()
    return average


@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_average_is_updated_once_per_optimizer_step(accumulate: int) -> None:
    ema, steps, task = EMA(decay=0.4), Steps(), make_task()
    start = copy.deepcopy(task.network.state_dict())
    trainer = make_trainer(ema, steps, max_epochs=2, accumulate_grad_batches=accumulate)
    trainer.fit(task, datamodule=Data(make_batches(5)))
    assert len(steps.states) == 2 * -(-5 // accumulate)
    assert ema.average is not None
    for key, expected in by_hand(start, steps.states, 0.4).items():
        if not key.endswith("num_batches_tracked"):
            torch.testing.assert_close(ema.average.state_dict()[key].double(), expected, rtol=1e-5, atol=1e-6)


def test_an_epoch_and_a_resumed_one_equal_two_epochs_bit_for_bit(tmp_path: Path) -> None:
    data = make_batches(4), make_batches(2, seed=9)
    whole, again = EMA(decay=0.9), EMA(decay=0.9)
    at_once = make_trainer(whole, max_epochs=2)
    at_once.fit(make_task(), datamodule=Data(*data))
    first = make_trainer(EMA(decay=0.9), max_epochs=1)
    first.fit(make_task(), datamodule=Data(*data))
    first.save_checkpoint(tmp_path / "one.ckpt")
    second = make_trainer(again, max_epochs=2)
    second.fit(make_task(), datamodule=Data(*data), ckpt_path=tmp_path / "one.ckpt", weights_only=True)
    assert whole.average is not None
    assert again.average is not None
    for key, tensor in whole.average.state_dict().items():
        assert torch.equal(tensor, again.average.state_dict()[key]), key
    for name in ("val/ema_loss", "val/ema_accuracy", "val/loss"):
        assert at_once.callback_metrics[name] == second.callback_metrics[name]


def test_trained_and_averaged_weights_are_evaluated_on_every_image() -> None:
    ema, task, val = EMA(decay=0.9), make_task(), [batch(torch.tensor([0, 1, 2, 0]), 1), batch(torch.tensor([2]), 2)]
    trainer = make_trainer(ema, max_epochs=3)
    trainer.fit(task, datamodule=Data(make_batches(4), val))
    images, targets = torch.cat([one.images for one in val]), torch.cat([one.targets for one in val])
    assert ema.average is not None
    for prefix, net in (("val/", task.network.eval()), ("val/ema_", ema.average)):
        logits = net(images)
        assert trainer.callback_metrics[f"{prefix}loss"].item() == pytest.approx(
            F.cross_entropy(logits, targets).item()
        )
        accuracy = (logits.argmax(1) == targets).float().mean().item()
        assert trainer.callback_metrics[f"{prefix}accuracy"].item() == pytest.approx(accuracy)
    assert trainer.callback_metrics["val/loss"] != trainer.callback_metrics["val/ema_loss"]


def test_the_trained_network_is_the_same_with_and_without_an_average() -> None:
    tasks = [make_task(), make_task()]
    for task, callbacks in zip(tasks, ([EMA()], []), strict=True):
        make_trainer(*callbacks, max_epochs=2).fit(task, datamodule=Data(make_batches(3), make_batches(1, seed=5)))
    for first, second in zip(*(task.state_dict().values() for task in tasks), strict=True):
        assert torch.equal(first, second)


def test_a_checkpoint_within_a_validation_has_the_trained_weights() -> None:
    class Check(Callback):
        def on_validation_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            checkpoint = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
            steps = trainer.callbacks[1]
            for key, tensor in steps.states[-1].items():
                assert torch.equal(checkpoint["state_dict"][f"network.{key}"], tensor)
            self.checked = True

    check = Check()
    make_trainer(EMA(), Steps(), check, max_epochs=1).fit(
        make_task(), datamodule=Data(make_batches(3), make_batches(2, seed=5))
    )
    assert check.checked


def test_weights_in_half_precision_are_refused() -> None:
    trainer = make_trainer(EMA(), max_epochs=1, precision="bf16-true")
    with pytest.raises(ValueError, match="bf16-mixed"):
        trainer.fit(make_task(), datamodule=Data(make_batches(1)))


def test_the_memory_layout_of_the_network_is_kept() -> None:
    ema, task = EMA(), make_task(network=network().to(memory_format=torch.channels_last))
    make_trainer(ema, max_epochs=1).fit(task, datamodule=Data(make_batches(2)))
    assert isinstance(ema.average, nn.Sequential)
    assert ema.average[0].weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("options", [{"decay": 1.0}, {"decay": -0.1}, {"warmup": 0}])
def test_an_invalid_decay_or_warmup_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="callbacks.ema"):
        EMA(**options)


@pytest.mark.slow
def test_a_run_that_monitors_the_average_evaluates_and_predicts_with_it(
    invoke: Callable[..., Any],
    runs: Callable[[], list[Path]],
    folder: Path,
    tmp_path: Path,
) -> None:
    data = ("data=folder", f"data.root={folder}", *SMALL, "trainer.max_epochs=2")
    averaged = ("callbacks=[default,ema,early_stopping]", "monitor=val/ema_loss", "scheduler=plateau")
    assert invoke("train", *data, *averaged).code == 0
    (run,) = runs()
    file = run / "checkpoints" / "best.ckpt"
    state = torch.load(file, weights_only=True)
    names = {key.removeprefix("network.") for key in state["state_dict"] if key.startswith("network.")}
    assert set(state["state_dict_ema"]) == names

    assert invoke("evaluate", f"run={run}").code == 0
    (evaluated,) = run.glob("evaluate/*/results.json")
    figures = json.loads(evaluated.read_text())["test"]
    assert {"loss", "ema_loss", "accuracy", "ema_accuracy"} <= set(figures)
    assert figures == pytest.approx(json.loads((run / "results.json").read_text())["test"])
    (table,) = run.glob("evaluate/*/per_class.csv")
    assert {"recall", "ema_recall"} <= set(next(csv.DictReader(table.open())))

    output = tmp_path / "p.csv"
    code, out, err = invoke("predict", f"run={run}", f"source={folder}/test", f"output={output}")
    assert code == 0
    assert "predicting with the averaged weights" in out + err
    rows = list(csv.DictReader(output.open()))
    loss = -sum(torch.tensor(float(row[f"p({Path(row['path']).parent.name})"])).log() for row in rows) / len(rows)
    assert float(loss) == pytest.approx(figures["ema_loss"], rel=1e-4)
    assert float(loss) != pytest.approx(figures["loss"], rel=1e-4)

    net = SEResNet(3, depth=18, stem="small", width=16)
    assert "[state_dict_ema]" in load_weights(net, file).source
    assert torch.equal(net.get_parameter("conv1.weight"), state["state_dict_ema"]["conv1.weight"])


def test_a_monitor_of_the_average_needs_the_ema_callback_and_a_validation_figure(
    invoke: Callable[..., Any], folder: Path
) -> None:
    code, _, err = invoke("train", "data=folder", f"data.root={folder}", *SMALL, "monitor=val/ema_accuracy")
    assert code == 2
    assert "callbacks=[default,ema]" in err
    code, _, err = invoke(
        "train", "data=folder", f"data.root={folder}", *SMALL, "monitor=train/ema_accuracy", "callbacks=[default,ema]"
    )
    assert code == 2
    assert "val/ema_accuracy" in err
