"""Handles a loss that is NaN or infinite: stops the run, or skips the step."""

import logging
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import Callback, Trainer
from torch import Tensor
from torch.optim import LBFGS

log = logging.getLogger(__name__)
CHECK_EVERY = 10  # batches; reading a loss makes the program wait for the GPU
MOST_IN_A_ROW = 100


def finite_loss(on_nan: Literal["stop", "skip"], folder: str) -> Callback:
    """Return the callback for `on_nan`; `folder` has the checkpoints."""
    return SkipBadSteps(folder) if on_nan == "skip" else StopAtBadLoss(folder)


class FiniteWeights(Callback):
    """Stops the run before it saves weights, or chooses a checkpoint by a loss, that are not finite."""

    def __init__(self, folder: str) -> None:
        self.last = Path(folder) / "last.ckpt"
        self.step, self.rates = 0, [0.0]  # the current optimizer step and its learning rates

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.step = trainer.global_step + 1
        self.rates = [group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups]

    def on_save_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Raise ValueError on all ranks if the weights of one are not finite."""
        if trainer.strategy.reduce_boolean_decision(not all_finite(pl_module.network), all=False):
            raise self.error(trainer, "the weights are not finite, although the loss was,", self.step, self.rates)

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Raise ValueError if the validation loss, which is the same on all ranks, is not finite.

        Without a known label the loss is always nan, so it is then ignored.
        """
        loss = trainer.callback_metrics.get("val/loss")
        if loss is not None and not loss.isfinite() and pl_module.labels_known and not trainer.sanity_checking:
            raise self.error(trainer, f"the validation loss is {loss.item()} after training", self.step, self.rates)

    def error(self, trainer: Trainer, cause: str, step: int, rates: list[float]) -> ValueError:
        """Return an error with the cause, the place, the last good checkpoint and remedies."""
        checkpoint = self.last if self.last.is_file() else "none yet"
        rate = ", ".join(f"{rate:.4g}" for rate in sorted(set(rates)))
        return ValueError(
            f"{cause} at step {step} (epoch {trainer.current_epoch + 1}), learning rate {rate}\n"
            f"last good checkpoint: {checkpoint}\n"
            f"to continue: resume={self.last.parents[1]} trainer.gradient_clip_val=1 force=true\n"
            "on_nan=skip skips such steps; or start a new run with a lower optimizer.lr"
        )


class StopAtBadLoss(FiniteWeights):
    """Checks the losses of all ranks every few steps, and before a validation, a checkpoint and the end of an epoch."""

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self.pending: list[tuple[int, list[float], Tensor]] = []  # step, learning rates, loss

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if outputs:
            self.pending.append((self.step, self.rates, outputs["loss"]))
        if len(self.pending) >= CHECK_EVERY:
            self.check(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        self.check(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.check(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        self.check(trainer)
        super().on_save_checkpoint(trainer, pl_module, checkpoint)

    def check(self, trainer: Trainer) -> None:
        """Raise ValueError on all ranks if a loss was not finite on one of them, with the first such step."""
        if not self.pending:
            return
        own = torch.stack([loss for _, _, loss in self.pending])  # (n,)
        losses = trainer.strategy.all_gather(own).reshape(-1, len(own)).cpu()  # (ranks, n)
        for (step, rates, _), of_ranks in zip(self.pending, losses.T, strict=True):
            if not of_ranks.isfinite().all():
                loss = of_ranks[~of_ranks.isfinite()][0].item()
                raise self.error(trainer, f"the loss is {loss}", step, rates)
        self.pending = []


class SkipBadSteps(FiniteWeights):
    """Skips an optimizer step if one of its losses is not finite on one rank, and logs the number of skipped steps.

    A skipped step changes neither weights nor optimizer state nor BatchNorm's statistics, even if it has accumulated
    other batches. It still counts as a step, also for schedules. (GradScaler separately skips steps whose scaled
    gradients overflow although the loss is finite.) The check makes every step wait for the GPU.
    """

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self.buffers: list[Tensor] = []  # copies from before the step, such as BatchNorm's statistics
        self.rejected = False
        self.skipped, self.in_a_row = 0, 0
        self.taken = 0  # steps of the epoch that were not skipped

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Raise ValueError for optimizers whose step can't be skipped."""
        if isinstance(trainer.optimizers[0], LBFGS):
            raise ValueError("on_nan=skip: LBFGS can't skip a step: use on_nan=stop or another optimizer")
        if trainer.precision == "16-mixed" and any(
            getattr(o, "_step_supports_amp_scaling", False) for o in trainer.optimizers
        ):
            raise ValueError(
                "on_nan=skip: a fused optimizer can't skip a step with 16-mixed: set optimizer.fused=false"
            )
        pl_module.rejects = lambda loss: self.rejects(trainer, pl_module, loss)

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self.buffers = [buffer.clone() for buffer in pl_module.network.buffers()]
            self.rejected = False

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step:  # the step is complete, not only one of its accumulated batches
            self.in_a_row = self.in_a_row + 1 if self.rejected else 0
            self.taken += not self.rejected
        if self.in_a_row == MOST_IN_A_ROW:
            cause = f"stopped: {MOST_IN_A_ROW} steps in a row were skipped because their loss was not finite,"
            raise self.error(trainer, cause, self.step, self.rates)

    def rejects(self, trainer: Trainer, pl_module: Any, loss: Tensor) -> bool:
        """Return True if a loss of the step was not finite on any rank, and then restore the buffers."""
        if not self.rejected and trainer.strategy.reduce_boolean_decision(not loss.isfinite().item(), all=False):
            self.rejected = True
            if not self.skipped:
                own = f"the loss is {loss.item()}"
                cause = "the loss is not finite on another device" if loss.isfinite().item() else own
                log.warning(
                    "%s at step %d, learning rate %.4g: the step is skipped (on_nan=skip)",
                    *(cause, self.step, self.rates[0]),
                )
            self.skipped += 1
        if self.rejected:
            for buffer, before in zip(pl_module.network.buffers(), self.buffers, strict=True):
                buffer.copy_(before)
        return self.rejected

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: Any, optimizer: Any) -> None:
        if self.rejected:  # without a gradient, optimizers apply neither weight decay nor momentum
            for parameter in pl_module.network.parameters():
                parameter.grad = None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        if self.skipped:
            epoch = trainer.current_epoch + 1
            log.warning("epoch %d: %d steps were skipped because their loss was not finite", epoch, self.skipped)
            if not self.taken:  # the epoch's figures would be undefined
                raise self.error(trainer, "stopped: all steps of the epoch were skipped,", self.step, self.rates)
        self.skipped, self.taken = 0, 0

    def state_dict(self) -> dict[str, Any]:
        return {"skipped": self.skipped, "in_a_row": self.in_a_row, "taken": self.taken}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.skipped, self.in_a_row = state_dict["skipped"], state_dict["in_a_row"]
        self.taken = state_dict["taken"]


def all_finite(network: torch.nn.Module) -> bool:
    """Return True if every parameter and float buffer is finite."""
    tensors = [*network.parameters(), *(buffer for buffer in network.buffers() if buffer.is_floating_point())]
    return bool(torch.stack([norm.float() for norm in torch._foreach_norm(tensors, torch.inf)]).isfinite().all())
