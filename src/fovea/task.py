"""The LightningModule: what happens to a batch. Every part is handed in; this file knows none of them."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import numpy as np
import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import Metric, MetricCollection

from fovea.training import class_means, metric_states
from fovea.training.batch_loss import BatchLoss, Measured
from fovea.training.mean_loss import MeanLoss
from fovea.training.schedule_replay import replay

Split = Literal["train", "val", "test"]


class ClassificationTask(LightningModule):
    """Trains and measures a classifier, single-label or multi-label.

    Logs `<split>/loss` and `<split>/<metric>` per epoch, and `train/loss_step` per step. Logged losses are means over
    what is known, for reduction=sum too; an epoch's is that of all its targets, not a mean of the batches' means.

    Attributes:
        labels_known: whether any label of the last validation or test is known.
        per_class: after a test, {metric: (K,) tensor} of the metrics that say something of each class.
        rejects: asked for each training loss, on all ranks; where it says True, the batch counts for nothing. The
            callback that puts its own in place sees to it that the step is not taken.
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
            metrics: updated with (probabilities (B, K), integer target); each gives a scalar.
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
        # no compute groups: torchmetrics would merge metrics whose sums happen to agree on the first batch
        scalars = MetricCollection(dict(metrics), compute_groups=False)
        self.metrics = nn.ModuleDict({f"{s}_": scalars.clone(prefix=f"{s}/") for s in ("train", "val", "test")})
        self.losses = nn.ModuleDict({f"{s}_": MeanLoss() for s in ("train", "val", "test")})
        self.test_per_class = MetricCollection(dict(per_class_metrics), compute_groups=False)
        self.per_class: dict[str, Tensor] = {}
        self.evaluated = 0  # images of this rank in the current validation or test
        self.known = torch.tensor(0)  # their labels that are known, or the sum of these labels' weights
        self.labels_known = True
        self.left_out_said = False
        self.undefined_said: set[str] = set()  # names of figures
        self.rejects: Callable[[Tensor], bool] = lambda loss: False

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 -> (B, K) logits."""
        return self.network(self.preprocess(images))

    def probabilities(self, logits: Tensor) -> Tensor:
        """(B, K), float32: softmax over the classes, or a sigmoid for each."""
        logits = logits.float()
        return logits.sigmoid() if self.task == "multilabel" else logits.softmax(dim=1)

    def on_train_start(self) -> None:
        """A checkpoint's schedule is as its own config has it: where a run is prolonged, this config's takes over."""
        if self.other_schedule:
            (schedule,), (optimizer,) = self.trainer.lr_scheduler_configs, self.trainer.optimizers
            replay(optimizer, schedule.scheduler, self.build_scheduler(self._new_optimizer()))
            self.other_schedule = False
        if self.resumed is not None:
            self._go_on(self.resumed)
            self.resumed = None

    def on_validation_end(self) -> None:
        self.validated = True
        if not self.trainer.sanity_checking:
            self._say_what_is_undefined("val", left_out=not self.left_out_said)
            self.left_out_said = True

    def on_test_end(self) -> None:
        self._say_what_is_undefined("test", left_out=True)

    def _say_what_is_undefined(self, split: Split, left_out: bool) -> None:
        """Log which figures are undefined, each once; and over how many classes the means were, where asked for."""
        metrics = self.metrics[f"{split}_"]
        assert isinstance(metrics, MetricCollection)
        names = {name for name in self.trainer.callback_metrics if name.startswith(f"{split}/")}
        undefined = sorted(name for name in names - self.undefined_said if self.is_undefined(name))
        self.undefined_said.update(undefined)
        if not self.trainer.is_global_zero:
            return
        if left_out:
            named = {name: metric for name, metric in metrics.items(copy_state=False) if name not in undefined}
            class_means.say_left_out(named, self.config.get("class_names"))
        if undefined:
            class_means.say_undefined(undefined, self.monitor)

    def is_undefined(self, name: str) -> bool:
        """Whether a figure is nan for want of labels, and not because the network's loss is nan too."""
        figures = self.trainer.callback_metrics
        if name not in figures or not figures[name].isnan():
            return False
        loss = figures.get(f"{name.partition('/')[0]}/loss")
        return loss is None or not loss.isnan().item() or not self.labels_known

    def lr_scheduler_step(self, scheduler: Any, metric: Any | None) -> None:
        """A plateau schedule takes each validation into account once; Lightning shows it the last one again."""
        if metric is None:
            scheduler.step()
        elif (self.validated or not self.monitor.startswith("val/")) and not self.is_undefined(self.monitor):
            scheduler.step(metric)
            self.validated = False

    def on_train_batch_start(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """What the step draws (dropout) follows from (seed, batch counter, rank), so a restart changes nothing."""
        counter = self.trainer.fit_loop.epoch_loop.total_batch_idx
        mixed = np.random.SeedSequence([self.seed, counter, self.global_rank]).generate_state(1, np.uint64)
        torch.manual_seed(int(mixed[0]))

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Any:
        if not len(batch[0]):
            if self.trainer.world_size == 1:
                return None  # no step
            raise ValueError("not one image of a rank's batch could be read, and the others can't step without it")
        images, target = self.mix(self.preprocess(batch[0]), batch[1])
        logits = self.network(images)  # (B, K)
        loss = self.loss(logits, target)
        if self.rejects(loss.value):  # several devices must have gradients to bring together: zeros
            return {"loss": sum((p * 0).sum() for p in self.network.parameters() if p.requires_grad), "left_out": True}
        self._measure(loss, logits, target, "train")
        self.log("train/loss_step", loss.mean, on_step=True, on_epoch=False, prog_bar=True)
        return loss.value

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Make an optimizer step follow the mean loss of its batches; an epoch's last step may have fewer of them.

        Lightning has divided the loss by accumulate_grad_batches.
        """
        every = self.trainer.accumulate_grad_batches
        first = self.trainer.fit_loop.epoch_loop.batch_idx // every * every
        there = min(every, self.trainer.num_training_batches - first)
        super().backward(loss if there == every else loss * (every / there), *args, **kwargs)

    def validation_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        self._evaluate(batch, "val")

    def test_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        probabilities, labels = self._evaluate(batch, "test")
        metric_states.update(self.test_per_class.values(), probabilities, labels)

    def on_validation_start(self) -> None:
        self._begin_to_evaluate()

    def on_test_start(self) -> None:
        self._begin_to_evaluate()

    def _begin_to_evaluate(self) -> None:
        self.as_on_rank_0(self.network)
        self.evaluated, self.known = 0, torch.tensor(0, device=self.device)

    def as_on_rank_0(self, network: nn.Module) -> None:
        """Take over rank 0's buffers, which are what a checkpoint has.

        Each rank's BatchNorm sees its own images, and DDP makes the ranks agree at the next training step only.
        """
        if self.trainer.world_size > 1:
            for buffer in network.buffers():
                torch.distributed.broadcast(buffer, 0)

    def on_validation_epoch_end(self) -> None:
        self._check_evaluated("validation")

    def _check_evaluated(self, what: str) -> None:
        """Raises ValueError on all ranks: figures of no image would be perfect losses."""
        if not self.trainer.strategy.reduce(torch.tensor(self.evaluated, device=self.device), reduce_op="sum"):
            raise ValueError(f"the {what} has no figures: not one of its images could be read")
        self.labels_known = bool(self.trainer.strategy.reduce(self.known, reduce_op="sum") > 0)

    def on_test_epoch_end(self) -> None:
        self._check_evaluated("test")
        figures = self.test_per_class.compute()
        self.per_class = {name: figure.reshape(-1) for name, figure in figures.items()}  # torchmetrics drops a K of 1
        self.test_per_class.reset()

    def predict_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> tuple[Tensor, Tensor, Tensor]:
        """(probabilities (B, K), indices (B,), indices of the images that could not be read (S,))."""
        images, _, indices, unreadable = batch
        return self.probabilities(self(images)), indices, unreadable

    def mix(self, images: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """`mixing`, where a label mixed with an unknown one is unknown."""
        if self.task == "multiclass":
            return self.mixing(images, target)
        images, target = self.mixing(images, target.masked_fill(target == -1, torch.nan))
        return images, target.nan_to_num(nan=-1.0)

    def _evaluate(self, batch: tuple[Tensor, ...], split: Split) -> tuple[Tensor, Tensor]:
        images, target = batch[:2]
        self.evaluated += len(target)
        logits = self(images)  # (B, K)
        loss = self.loss(logits, target)
        self.known = self.known + loss.weight.detach()
        return self._measure(loss, logits, target, split)

    def count(
        self, loss: Measured, logits: Tensor, target: Tensor, losses: MeanLoss, metrics: Iterable[Metric]
    ) -> tuple[Tensor, Tensor]:
        """Feed a batch to its split's metrics; probabilities (B, K) and integer labels."""
        probabilities, labels = self.probabilities(logits.detach()), self._labels(target)
        if len(target):  # a rank with no image left has nothing to say of the loss
            losses.update(loss.mean.detach(), loss.weight)
        metric_states.update(metrics, probabilities, labels)
        return probabilities, labels

    def _measure(self, loss: Measured, logits: Tensor, target: Tensor, split: Split) -> tuple[Tensor, Tensor]:
        """`count`, and what is logged of it at the epoch's end."""
        losses, metrics = self.losses[f"{split}_"], self.metrics[f"{split}_"]
        assert isinstance(losses, MeanLoss) and isinstance(metrics, MetricCollection)
        counted = self.count(loss, logits, target, losses, metrics.values())
        if split != "train":
            self._log_figures(split)
        return counted

    def on_train_epoch_end(self) -> None:
        """Here, for an epoch whose last batch was trained on before the run was resumed has no step to log them in."""
        self._log_figures("train")

    def _log_figures(self, split: Split) -> None:
        losses, metrics = self.losses[f"{split}_"], self.metrics[f"{split}_"]
        assert isinstance(losses, MeanLoss) and isinstance(metrics, MetricCollection)
        self.log(f"{split}/loss", losses, on_step=False, on_epoch=True)
        for name, metric in metrics.items(keep_base=False, copy_state=False):
            self.log(name, metric, on_step=False, on_epoch=True, prog_bar=name == self.monitor)

    def _labels(self, target: Tensor) -> Tensor:
        """What the metrics compare with: (B,) or (B, K) int64; of mixed labels the heaviest, or those above a half."""
        if self.task == "multiclass" and target.ndim == 2:
            return target.argmax(dim=1)
        return target.round().long()

    def configure_optimizers(self) -> Any:
        optimizer = self._new_optimizer()
        scheduler = self.build_scheduler(optimizer)
        # not strict: an epoch without a validation leaves a plateau schedule as it is
        schedule = {"scheduler": scheduler, "interval": self.interval, "monitor": self.monitor, "strict": False}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def _new_optimizer(self) -> Optimizer:
        return self.build_optimizer(self.parameter_groups(self.network))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["config"] = self.config
        checkpoint["running"] = {
            "metrics": metric_states.of(self._running()),
            "logged": {name: value.item() for name, value in self.trainer._logger_connector._callback_metrics.items()},
            "validated": self.validated,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.trainer.state.fn == "fit":
            self.resumed = checkpoint["running"]
            self.other_schedule = checkpoint["config"].get("scheduler") != self.config.get("scheduler")

    def _go_on(self, was: dict[str, Any]) -> None:
        """The epoch's figures so far, and the last validation's, which a plateau schedule may still look at."""
        metric_states.put_back(self._running(), was["metrics"], self.global_rank, self.trainer.world_size)
        logged = {name: torch.tensor(value, device=self.device) for name, value in was["logged"].items()}
        self.trainer._logger_connector._callback_metrics.update(logged)
        self.validated = was["validated"]

    def _running(self) -> nn.ModuleList:
        """What gathers figures over an epoch of training."""
        return nn.ModuleList([self.metrics["train_"], self.losses["train_"]])
