"""The LightningModule: what happens to a batch. Every part is handed in; this file knows none of them."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import numpy as np
import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import MeanMetric, Metric, MetricCollection

Split = Literal["train", "val", "test"]


class ClassificationTask(LightningModule):
    """Trains and measures a classifier, single-label or multi-label.

    Logs `<split>/loss` and `<split>/<metric>` per epoch, and `train/loss_step` per step. The loss of an epoch is the
    mean over everything known in it, not a mean of the batches' means.

    Attributes:
        per_class: after a test, {metric: (K,) tensor} of the metrics that say something of each class.
    """

    def __init__(
        self,
        task: Literal["multiclass", "multilabel"],
        network: nn.Module,
        preprocess: nn.Module,
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
            loss: (logits, target) -> scalar, the mean over what is known.
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
        self.network, self.preprocess, self.loss = network, preprocess, loss
        self.build_optimizer, self.build_scheduler = optimizer, scheduler
        self.parameter_groups, self.interval, self.monitor = parameter_groups, interval, monitor
        self.seed, self.config = seed, config
        self.schedule_settings: dict[str, Any] = {}
        # no compute groups: torchmetrics would merge metrics whose sums happen to agree on the first batch
        scalars = MetricCollection(dict(metrics), compute_groups=False)
        self.metrics = nn.ModuleDict({f"{s}_": scalars.clone(prefix=f"{s}/") for s in ("train", "val", "test")})
        self.losses = nn.ModuleDict({f"{s}_": MeanMetric() for s in ("train", "val", "test")})
        self.test_per_class = MetricCollection(dict(per_class_metrics), compute_groups=False)
        self.per_class: dict[str, Tensor] = {}

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 -> (B, K) logits."""
        return self.network(self.preprocess(images))

    def probabilities(self, logits: Tensor) -> Tensor:
        """(B, K), float32: softmax over the classes, or a sigmoid for each."""
        logits = logits.float()
        return logits.sigmoid() if self.task == "multilabel" else logits.softmax(dim=1)

    def on_train_start(self) -> None:
        """A checkpoint's schedule brings its settings along: put this config's back, so that a run can be prolonged."""
        for schedule in self.trainer.lr_scheduler_configs:
            put_back(schedule.scheduler, self.schedule_settings)

    def on_train_batch_start(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """What the step draws (dropout) follows from (seed, batch counter, rank), so a restart changes nothing."""
        counter = self.trainer.fit_loop.epoch_loop.total_batch_idx
        mixed = np.random.SeedSequence([self.seed, counter, self.global_rank]).generate_state(1, np.uint64)
        torch.manual_seed(int(mixed[0]))

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor | None:
        if not len(batch[0]):
            if self.trainer.world_size == 1:
                return None  # no step
            raise ValueError("not one image of a rank's batch could be read, and the others can't step without it")
        loss, _, _ = self._measure(batch, "train")
        self.log("train/loss_step", loss, on_step=True, on_epoch=False, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        self._measure(batch, "val")

    def test_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        _, probabilities, labels = self._measure(batch, "test")
        feed(self.test_per_class.values(), probabilities, labels)

    def on_test_epoch_end(self) -> None:
        self.per_class = self.test_per_class.compute()
        self.test_per_class.reset()

    def predict_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> tuple[Tensor, Tensor, Tensor]:
        """(probabilities (B, K), indices (B,), indices of the images that could not be read (S,))."""
        images, _, indices, unreadable = batch
        return self.probabilities(self(images)), indices, unreadable

    def _measure(self, batch: tuple[Tensor, ...], split: Split) -> tuple[Tensor, Tensor, Tensor]:
        """The loss, with its graph; probabilities (B, K) and integer labels, without; the split's metrics are fed."""
        images, target = batch[:2]
        logits = self(images)  # (B, K)
        loss = self.loss(logits, target)
        probabilities, labels = self.probabilities(logits.detach()), self._labels(target)
        losses, metrics = self.losses[f"{split}_"], self.metrics[f"{split}_"]
        assert isinstance(losses, MeanMetric) and isinstance(metrics, MetricCollection)
        if len(images):  # a rank with no image left has nothing to say of the loss
            losses.update(loss.detach(), weight=(target != -1).sum())
        feed(metrics.values(), probabilities, labels)
        self.log(f"{split}/loss", losses, on_step=False, on_epoch=True)
        for name, metric in metrics.items(keep_base=False, copy_state=False):
            self.log(name, metric, on_step=False, on_epoch=True, prog_bar=name == self.monitor)
        return loss, probabilities, labels

    def _labels(self, target: Tensor) -> Tensor:
        """What the metrics compare with: (B,) or (B, K) int64; of mixed labels the heaviest."""
        if self.task == "multiclass" and target.ndim == 2:
            return target.argmax(dim=1)
        return target.long()

    def configure_optimizers(self) -> Any:
        optimizer = self.build_optimizer(self.parameter_groups(self.network))
        scheduler = self.build_scheduler(optimizer)
        self.schedule_settings = settings(scheduler)
        # not strict: an epoch without a validation leaves a plateau schedule as it is
        schedule = {"scheduler": scheduler, "interval": self.interval, "monitor": self.monitor, "strict": False}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["config"] = self.config


def settings(scheduler: Any) -> dict[str, Any]:
    """What a scheduler was built with (step_size, T_max, total_steps, ...), as opposed to how far it has come."""
    names = set(inspect.signature(type(scheduler).__init__).parameters) - {"self", "optimizer", "last_epoch"}
    names |= {f"_{name}" for name in names} | {"_schedule_phases"}  # milestones are kept as _milestones
    own = {name: value for name, value in vars(scheduler).items() if name in names and name != "_schedulers"}
    return own | {"_schedulers": [settings(inner) for inner in getattr(scheduler, "_schedulers", [])]}


def put_back(scheduler: Any, built_with: dict[str, Any]) -> None:
    """Undo what loading a state did to `settings`."""
    vars(scheduler).update({name: value for name, value in built_with.items() if name != "_schedulers"})
    for inner, own in zip(getattr(scheduler, "_schedulers", []), built_with["_schedulers"], strict=True):
        put_back(inner, own)


def feed(metrics: Iterable[Metric], probabilities: Tensor, labels: Tensor) -> None:
    """Update each metric; on a rank that has no image left, only those that gather lists.

    Those need rows of the right width to gather, if none; torchmetrics' counting metrics refuse an empty batch.
    """
    for metric in metrics:
        if len(labels) or any(isinstance(state, list) for state in metric.metric_state.values()):
            metric.update(probabilities, labels)
