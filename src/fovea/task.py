"""The LightningModule: what happens to a batch. Every part is handed in; this file knows none of them."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import Metric

from fovea.training import class_means, loop_state, meter
from fovea.training.batch_loss import BatchLoss
from fovea.training.meter import Meter
from fovea.training.schedule_replay import replay
from fovea.training.step_seed import seed_step


class ClassificationTask(LightningModule):
    """Trains and measures a classifier, single-label or multi-label.

    Logs `<split>/loss` and `<split>/<metric>` per epoch, and `train/loss_step` every trainer.log_every_n_steps. Logged
    losses are means over what is known, for reduction=sum too; an epoch's is that of all its targets, not a mean of the
    batches' means.

    Attributes:
        also_evaluated: other networks that validation and test measure, by what their figures' names begin with
            ("ema_"). A callback may add some; they are no part of the module's state.
        labels_known: whether any label of the last validation or test is known.
        per_class: after a test, {metric: (K,) tensor} of the metrics that say something of each class.
        rejects: asked for each training loss, on all ranks; where it says True, the batch counts for nothing. The
            callback that puts its own in place sees to it that the step is not taken.
        counted: whether the last training batch had an image and was not rejected.
    """

    def __init__(
        self,
        task: Literal["multiclass", "multilabel"],
        network: nn.Module,
        preprocess: nn.Module,
        mixing: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
        loss: Callable[[Tensor, Tensor], Tensor],
        metrics: Mapping[str, Metric],
        per_class_metrics: Mapping[str, Metric],
        optimizer: Callable[[Any], Optimizer],
        parameter_groups: Callable[[nn.Module], Any],
        scheduler: Callable[[Optimizer], LRScheduler],
        interval: Literal["epoch", "step"],
        monitor: str,
        seed: int,
        config: dict[str, Any],
    ) -> None:
        """Nothing is built here but copies of the metrics.

        Args:
            network: (B, 3, H, W) float -> (B, K) logits.
            preprocess: (B, 3, H, W) uint8 -> the network's float input.
            mixing: (the network's input, target) -> the same of a mixed training batch, target (B, K) float.
            loss: (logits, target) -> scalar, the mean over what is known; or unreduced, see BatchLoss.
            metrics: updated with (probabilities (B, K), integer target) of some batches at once; each gives a scalar.
            per_class_metrics: the same, each gives (K,); for test alone.
            optimizer: parameters or parameter groups -> optimizer.
            parameter_groups: network -> what the optimizer is given.
            interval: when the scheduler steps.
            monitor: what a plateau scheduler follows.
            seed: what the steps' randomness follows from.
            config: plain containers, kept in every checkpoint.
        """
        super().__init__()
        self.task: Literal["multiclass", "multilabel"] = task
        self.network, self.preprocess, self.mixing, self.loss = network, preprocess, mixing, BatchLoss(loss, task)
        self.build_optimizer, self.build_scheduler = optimizer, scheduler
        self.parameter_groups, self.interval, self.monitor = parameter_groups, interval, monitor
        self.seed, self.config = seed, config
        self.other_schedule = False  # than that of the checkpoint that is gone on with
        self.validated = False  # since a plateau schedule was told last
        self.resumed: dict[str, Any] | None = None
        self.metrics, self.per_class_metrics = dict(metrics), dict(per_class_metrics)
        self.train_meter = Meter("train/", task, self.metrics)
        self.meters: dict[str, Meter] = {}  # of the current validation or test: "" is the network's
        self.also_evaluated: dict[str, nn.Module] = {}
        self.per_class: dict[str, Tensor] = {}
        self.labels_known = True
        self.notes = class_means.Notes(monitor, config.get("class_names"))
        self.rejects: Callable[[Tensor], bool] = lambda loss: False
        self.counted = True
        self.batch_loss = torch.tensor(torch.nan)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 -> (B, K) logits."""
        return self.network(self.preprocess(images))

    def probabilities(self, logits: Tensor) -> Tensor:
        """(B, K), float32: softmax over the classes, or a sigmoid for each."""
        return meter.probabilities(logits, self.task)

    # training

    def on_train_start(self) -> None:
        """A checkpoint's schedule is as its own config has it: where a run is prolonged, this config's takes over."""
        self.train_meter.to(self.device)
        if self.other_schedule:
            (schedule,), (optimizer,) = self.trainer.lr_scheduler_configs, self.trainer.optimizers
            replay(optimizer, schedule.scheduler, self.build_scheduler(self._new_optimizer()))
            self.other_schedule = False
        if self.resumed is not None:
            self._go_on(self.resumed)
            self.resumed = None

    def on_train_batch_start(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        seed_step(self.seed, self.trainer.fit_loop.epoch_loop.total_batch_idx, self.global_rank, self.device)

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor | None:
        self.counted = False
        if not len(batch[0]):
            if self.trainer.world_size == 1:
                return None  # no step
            raise ValueError("not one image of a rank's batch could be read, and the others can't step without it")
        images, target = self.mix(self.preprocess(batch[0]), batch[1])
        logits = self.network(images)  # (B, K)
        loss = self.loss(logits, target)
        self.batch_loss = loss.mean.detach()
        if self.rejects(loss.value):  # several devices must have gradients to bring together: zeros
            return torch.stack([(p * 0).sum() for p in self.network.parameters() if p.requires_grad]).sum()
        self.train_meter.update(loss, logits, target)
        self.counted = True
        return loss.value

    def mix(self, images: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """`mixing`, where a label mixed with an unknown one is unknown."""
        if self.task == "multiclass":
            return self.mixing(images, target)
        images, target = self.mixing(images, target.masked_fill(target == -1, torch.nan))
        return images, target.nan_to_num(nan=-1.0)

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Make an optimizer step follow the mean loss of its batches; an epoch's last step may have fewer of them.

        Lightning has divided the loss by accumulate_grad_batches.
        """
        every = self.trainer.accumulate_grad_batches
        first = self.trainer.fit_loop.epoch_loop.batch_idx // every * every
        there = min(every, self.trainer.num_training_batches - first)
        super().backward(loss if there == every else loss * (every / there), *args, **kwargs)

    def on_train_batch_end(self, outputs: Any, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """Log the loss where the loggers take it. In every step, `self.log` would cost as much as a small network."""
        if self.trainer._logger_connector.should_update_logs:
            self.log("train/loss_step", self.batch_loss, on_step=True, on_epoch=False)

    def on_train_epoch_end(self) -> None:
        self._log(self.train_meter.compute())
        if loop_state.has_ended(self.trainer):  # else a checkpoint is still to have it, for the run to go on from
            self.train_meter.reset()

    # validation, test and prediction

    def on_validation_start(self) -> None:
        self._begin_to_evaluate("val", {})

    def on_test_start(self) -> None:
        self._begin_to_evaluate("test", self.per_class_metrics)

    def _begin_to_evaluate(self, split: str, per_class: Mapping[str, Metric]) -> None:
        """Each rank's BatchNorm saw its own images, and DDP makes the ranks agree at the next training step only."""
        self.meters = {}
        for name, network in self._evaluated().items():
            if self.trainer.world_size > 1:
                broadcast_buffers(network)
            self.meters[name] = Meter(f"{split}/{name}", self.task, self.metrics, per_class).to(self.device)

    def _evaluated(self) -> dict[str, nn.Module]:
        return {"": self.network, **self.also_evaluated}

    def validation_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        images, target = batch[:2]
        for name, network in self._evaluated().items():
            logits = network(self.preprocess(images))  # (B, K)
            self.meters[name].update(self.loss(logits, target), logits, target)

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        for measured in self.meters.values():
            self._log(measured.compute())
        self.labels_known = self.meters[""].labels_known

    def on_test_epoch_end(self) -> None:
        self.on_validation_epoch_end()
        tables = {name: measured.compute_per_class() for name, measured in self.meters.items()}
        self.per_class = {f"{name}{metric}": t for name, table in tables.items() for metric, t in table.items()}

    def _log(self, figures: Mapping[str, Tensor]) -> None:
        """All ranks have the same figures already, so their maximum is exact; a mean could be rounded."""
        for name, value in figures.items():
            self.log(name, value.float(), sync_dist=True, reduce_fx="max")

    def on_validation_end(self) -> None:
        self.validated = True
        if not self.trainer.sanity_checking:
            self._say_what_is_undefined("val")

    def on_test_end(self) -> None:
        self._say_what_is_undefined("test")

    def _say_what_is_undefined(self, split: str) -> None:
        if self.trainer.is_global_zero:
            names = [name for name in self.trainer.callback_metrics if name.startswith(f"{split}/")]
            self.notes.say(split, self.meters[""].metrics, [name for name in names if self.is_undefined(name)])

    def is_undefined(self, name: str) -> bool:
        """Whether a figure is nan because labels are lacking."""
        return class_means.is_undefined(name, self.trainer.callback_metrics, self.labels_known)

    def predict_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> tuple[Tensor, Tensor, Tensor]:
        """(probabilities (B, K), indices (B,), indices of the images that could not be read (S,))."""
        images, _, indices, unreadable = batch
        return self.probabilities(self(images)), indices, unreadable

    # optimizer and checkpoint

    def configure_optimizers(self) -> Any:
        optimizer = self._new_optimizer()
        scheduler = self.build_scheduler(optimizer)
        # not strict: an epoch without a validation leaves a plateau schedule as it is
        schedule = {"scheduler": scheduler, "interval": self.interval, "monitor": self.monitor, "strict": False}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def _new_optimizer(self) -> Optimizer:
        return self.build_optimizer(self.parameter_groups(self.network))

    def lr_scheduler_step(self, scheduler: Any, metric: Any | None) -> None:
        """A plateau schedule takes each validation into account once; Lightning shows it the last one again."""
        if metric is None:
            scheduler.step()
        elif (self.validated or not self.monitor.startswith("val/")) and not self.is_undefined(self.monitor):
            scheduler.step(metric)
            self.validated = False

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["config"] = self.config
        checkpoint["running"] = {
            "meter": self.train_meter.states(),
            "logged": {name: value.item() for name, value in self.trainer._logger_connector._callback_metrics.items()},
            "validated": self.validated,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.trainer.state.fn == "fit":
            self.resumed = checkpoint["running"]
            self.other_schedule = checkpoint["config"].get("scheduler") != self.config.get("scheduler")

    def _go_on(self, was: dict[str, Any]) -> None:
        """The epoch's figures so far, and the last validation's, which a plateau schedule may still look at."""
        self.train_meter.load(was["meter"], self.global_rank, self.trainer.world_size)
        logged = {name: torch.tensor(value, device=self.device) for name, value in was["logged"].items()}
        self.trainer._logger_connector._callback_metrics.update(logged)
        self.validated = was["validated"]


def broadcast_buffers(network: nn.Module) -> None:
    """Take over rank 0's buffers, which are what a checkpoint has."""
    for buffer in network.buffers():
        torch.distributed.broadcast(buffer, 0)
