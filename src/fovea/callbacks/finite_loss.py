"""What becomes of a loss that is not finite: the run stops, or the step is left out."""

import logging
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import Callback, Trainer
from torch import Tensor
from torch.optim import LBFGS

log = logging.getLogger(__name__)
CHECK_EVERY = 10  # batches: looking at a loss makes the program wait for the GPU
MOST_IN_A_ROW = 100


def finite_loss(on_nan: Literal["stop", "skip"], folder: str) -> Callback:
    """The callback for `on_nan`; `folder` is where the checkpoints are."""
    return SkipBadSteps(folder) if on_nan == "skip" else StopAtBadLoss(folder)


class FiniteWeights(Callback):
    """No checkpoint is written of weights that are not finite, and none is chosen by a validation that is not."""

    def __init__(self, folder: str) -> None:
        self.last = Path(folder) / "last.ckpt"
        self.step, self.rates = 0, [0.0]  # that the current batch is a part of, and its learning rates

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.step = trainer.global_step + 1
        self.rates = [group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups]

    def on_save_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Raises ValueError; on all ranks, if on one."""
        if trainer.strategy.reduce_boolean_decision(not all_finite(pl_module.network), all=False):
            raise self.error(trainer, "the weights are not finite, though the loss was,", self.step, self.rates)

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Raises ValueError; the figure is all ranks'. Without a known label it is nan whatever the weights are."""
        loss = trainer.callback_metrics.get("val/loss")
        if loss is not None and not loss.isfinite() and pl_module.labels_known and not trainer.sanity_checking:
            raise self.error(trainer, f"the validation's loss is {loss.item()}, after training", self.step, self.rates)

    def error(self, trainer: Trainer, what: str, step: int, rates: list[float]) -> ValueError:
        """What happened, where, what is left, and what helps."""
        kept = self.last if self.last.is_file() else "none yet"
        seen = ", ".join(f"{rate:.4g}" for rate in sorted(set(rates)))
        return ValueError(
            f"{what} at step {step} (epoch {trainer.current_epoch + 1}), learning rate {seen}\n"
            f"last good checkpoint: {kept}\n"
            f"to go on: resume={self.last.parents[1]} trainer.gradient_clip_val=1 force=true\n"
            "on_nan=skip leaves such steps out; a lower optimizer.lr is for a new run"
        )


class StopAtBadLoss(FiniteWeights):
    """Looks at the losses of all ranks every few steps, and before a validation, a checkpoint and an epoch's end."""

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self.unseen: list[tuple[int, list[float], Tensor]] = []  # step, learning rates, loss

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if outputs:
            self.unseen.append((self.step, self.rates, outputs["loss"]))
        if len(self.unseen) >= CHECK_EVERY:
            self.look(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.look(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.look(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        self.look(trainer)
        super().on_save_checkpoint(trainer, pl_module, checkpoint)

    def look(self, trainer: Trainer) -> None:
        """Raises ValueError, on all ranks, naming the first step whose loss was not finite on one of them."""
        if not self.unseen:
            return
        mine = torch.stack([loss for _, _, loss in self.unseen])  # (n,)
        losses = trainer.strategy.all_gather(mine).reshape(-1, len(mine)).cpu()  # (ranks, n)
        for (step, rates, _), of_ranks in zip(self.unseen, losses.T, strict=True):
            if not of_ranks.isfinite().all():
                loss = of_ranks[~of_ranks.isfinite()][0].item()
                raise self.error(trainer, f"the loss is {loss}", step, rates)
        self.unseen = []


class SkipBadSteps(FiniteWeights):
    """Leaves out an optimizer step if one loss of it is not finite on one rank, and says how many it left out.

    Weights, optimizer and BatchNorm's statistics are then as they were before, whatever other batches were
    accumulated for the step. The step counts as one, for schedules too. (GradScaler's own skipping, of finite losses
    whose scaled gradients overflow, is none of this.) Every step waits for the device.
    """

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self.buffers: list[Tensor] = []  # BatchNorm's, as they were before the step
        self.rejected = False
        self.skipped, self.in_a_row = 0, 0
        self.taken = 0  # steps of the epoch

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Raises ValueError for an optimizer that evaluates a batch several times a step."""
        if isinstance(trainer.optimizers[0], LBFGS):
            raise ValueError("on_nan=skip: LBFGS can't leave out a step: take on_nan=stop or another optimizer")
        if trainer.precision == "16-mixed" and any(
            getattr(o, "_step_supports_amp_scaling", False) for o in trainer.optimizers
        ):
            raise ValueError(
                "on_nan=skip: a fused optimizer can't leave out a step with 16-mixed: optimizer.fused=false"
            )
        pl_module.rejects = lambda loss: self.rejects(trainer, pl_module, loss)

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self.buffers = [buffer.clone() for buffer in pl_module.network.buffers()]
            self.rejected = False

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step:  # it is complete
            self.in_a_row = self.in_a_row + 1 if self.rejected else 0
            self.taken += not self.rejected
        if self.in_a_row == MOST_IN_A_ROW:
            what = f"{MOST_IN_A_ROW} steps in a row were left out, their loss not finite: stopped"
            raise self.error(trainer, what, self.step, self.rates)

    def rejects(self, trainer: Trainer, pl_module: Any, loss: Tensor) -> bool:
        """Whether the step is to be left out, by the word of any rank; then everything is as before it."""
        if not self.rejected and trainer.strategy.reduce_boolean_decision(not loss.isfinite().item(), all=False):
            self.rejected = True
            if not self.skipped:
                mine = f"the loss is {loss.item()}"
                what = "the loss is not finite on another device" if loss.isfinite().item() else mine
                log.warning(
                    "%s at step %d, learning rate %.4g: the step is left out (on_nan=skip)",
                    *(what, self.step, self.rates[0]),
                )
            self.skipped += 1
        if self.rejected:
            for buffer, before in zip(pl_module.network.buffers(), self.buffers, strict=True):
                buffer.copy_(before)
        return self.rejected

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: Any, optimizer: Any) -> None:
        if self.rejected:  # optimizers pass by what has no gradient, decay and momentum included
            for parameter in pl_module.network.parameters():
                parameter.grad = None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        if self.skipped:
            log.warning("epoch %d: %d steps left out, their loss not finite", trainer.current_epoch + 1, self.skipped)
            if not self.taken:  # its figures would be those of no batch
                raise self.error(trainer, "all steps of the epoch were left out: stopped", self.step, self.rates)
        self.skipped, self.taken = 0, 0

    def state_dict(self) -> dict[str, Any]:
        return {"skipped": self.skipped, "in_a_row": self.in_a_row, "taken": self.taken}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.skipped, self.in_a_row = state_dict["skipped"], state_dict["in_a_row"]
        self.taken = state_dict["taken"]


def all_finite(network: torch.nn.Module) -> bool:
    """Whether every parameter and float buffer is."""
    tensors = [*network.parameters(), *(buffer for buffer in network.buffers() if buffer.is_floating_point())]
    return bool(torch.stack([norm.float() for norm in torch._foreach_norm(tensors, torch.inf)]).isfinite().all())
