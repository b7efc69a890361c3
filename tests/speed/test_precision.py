"""Mixed precision: what is computed in float32, and that resuming, averages and skipped steps stay exact."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback
from lightning.pytorch.plugins import MixedPrecision
from tasks import Data, half, make_batches, make_task, make_trainer
from torch import Tensor, nn
from torch.nn import functional as F

from fovea.callbacks.ema import EMA
from fovea.callbacks.finite_loss import finite_loss
from fovea.training.save_last import SaveLast
from fovea.training.stop_signals import Stopped

BATCHES = make_batches(6)


class StopWithin(Callback):
    """Asks for a stop while the second epoch is under way."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.current_epoch == 1 and batch_idx == 1:
            saver = next(callback for callback in trainer.callbacks if isinstance(callback, SaveLast))
            saver.signals.number = 15


def fit(folder: Path, precision: str, *callbacks: Any, resume: bool = False) -> dict[str, Any]:
    """Train with averages and accumulation, and return the last checkpoint."""
    own: dict[str, Any] = {"plugins": [half()]} if precision == "16-mixed" else {"precision": precision}
    own |= {"max_epochs": 2, "accumulate_grad_batches": 2, "enable_checkpointing": True}
    trainer = make_trainer(EMA(decay=0.5), *callbacks, SaveLast(str(folder)), **own)
    data = Data(BATCHES, make_batches(1))
    checkpoint = folder / "last.ckpt" if resume else None
    trainer.fit(make_task(), datamodule=data, ckpt_path=checkpoint, weights_only=True)
    content: dict[str, Any] = torch.load(folder / "last.ckpt", weights_only=True)
    return content


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_a_resumed_training_equals_an_uninterrupted_one_with_its_average_and_its_scale(
    tmp_path: Path, precision: str
) -> None:
    whole = fit(tmp_path / "whole", precision)
    with pytest.raises(Stopped):
        fit(tmp_path / "stopped", precision, StopWithin())
    resumed = fit(tmp_path / "stopped", precision, resume=True)
    for part in ("state_dict", "state_dict_ema"):
        assert all(torch.equal(resumed[part][name], tensor) for name, tensor in whole[part].items())
        assert {tensor.dtype for name, tensor in whole[part].items() if "tracked" not in name} == {torch.float32}
    assert resumed.get("MixedPrecision") == whole.get("MixedPrecision")
    if precision == "16-mixed":
        assert whole["MixedPrecision"]["scale"] > 256  # it grows every three steps


def test_half_precision_changes_the_weights_a_little(tmp_path: Path) -> None:
    plain, mixed = (fit(tmp_path / name, name)["state_dict"] for name in ("32-true", "bf16-mixed"))
    weight = "network.5.weight"
    assert not torch.equal(plain[weight], mixed[weight])
    torch.testing.assert_close(plain[weight], mixed[weight], atol=0.02, rtol=0.05)


class Dtypes(nn.Module):
    """A loss that records what it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[torch.dtype] = set()

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        self.seen.add(logits.dtype)
        return F.cross_entropy(logits, target)


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_losses_metrics_and_probabilities_are_computed_in_float32(precision: str) -> None:
    loss, outputs = Dtypes(), set()
    task, trainer = make_task(loss=loss), make_trainer(max_epochs=1, precision=precision)
    task.network.register_forward_hook(lambda module, inputs, output: outputs.add(output.dtype))
    trainer.fit(task, datamodule=Data(make_batches(2), make_batches(1)))
    trainer.test(task, datamodule=Data(make_batches(2), make_batches(1)), verbose=False)
    assert (outputs, loss.seen) == ({torch.bfloat16}, {torch.float32})
    assert {tensor.dtype for probabilities, *_ in task.tested for tensor in [probabilities]} == {torch.float32}


def log_likelihood(logits: Tensor, target: Tensor) -> Tensor:
    """A loss of a user; on a CPU, autocast would leave its logarithms in half precision."""
    return -logits.log_softmax(1).gather(1, target[:, None]).mean()


def test_a_loss_of_half_precision_logits_is_that_of_the_same_numbers_in_float32() -> None:
    task, target = make_task(loss=log_likelihood), torch.tensor([0, 2, 1])
    logits = torch.randn(3, 3, generator=torch.Generator().manual_seed(0)).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        measured = task.loss(logits, target).mean
    assert measured.dtype == torch.float32
    torch.testing.assert_close(measured, F.cross_entropy(logits.float(), target))


def test_a_skipped_step_changes_neither_weights_nor_the_scale(tmp_path: Path) -> None:
    class Traces(Callback):
        def __init__(self) -> None:
            self.states: list[tuple[float, Tensor]] = []

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            weights = torch.cat([tensor.float().flatten() for tensor in pl_module.network.state_dict().values()])
            self.states.append((trainer.precision_plugin.scaler.get_scale(), weights))

    batches, traces = make_batches(4), Traces()
    batches[2] = batches[2]._replace(images=batches[2].images * torch.nan)
    plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=256.0))
    trainer = make_trainer(finite_loss("skip", str(tmp_path)), traces, max_epochs=1, plugins=[plugin])
    trainer.fit(make_task(), datamodule=Data(batches))
    assert {scale for scale, _ in traces.states} == {256.0}
    assert torch.equal(traces.states[1][1], traces.states[2][1])
    assert not torch.equal(traces.states[2][1], traces.states[3][1])
