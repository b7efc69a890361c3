"""Measures the loss and the metrics of one network on one split.

A Meter can be saved in a checkpoint and restored, so a run can be resumed in the middle of an epoch. Lightning and
torchmetrics save neither the epoch's loss nor metrics.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Self

import torch
from torch import Tensor
from torchmetrics import Metric

from fovea.distributed.gather import gather
from fovea.training.batch_loss import Measured

AT_ONCE = 1024  # images of one update of the metrics; an update of 32 images would take as long
Task = Literal["multiclass", "multilabel"]


class Meter:
    """The loss and the metrics of a split, so far.

    Batches are kept until there are AT_ONCE images, and each metric is then updated once with all of them. The state
    contains what is kept, so a resumed run makes the same updates as an uninterrupted one, and rounds in the same way.

    Attributes:
        metrics: by the names of their figures; each computes a scalar. The loss is named `<prefix>loss`.
        per_class: by name; each computes (K,).
        measured: number of images that this rank has measured since the last `reset`.
        labels_known: True if any label of the last `compute` was known.
    """

    def __init__(
        self, prefix: str, task: Task, metrics: Mapping[str, Metric], per_class: Mapping[str, Metric] | None = None
    ) -> None:
        """`prefix` begins the figures' names, such as "val/". The metrics are copied and reset."""
        self.prefix, self.task, self.loss = prefix, task, MeanLoss()
        self.metrics = {f"{prefix}{name}": metric.clone() for name, metric in metrics.items()}
        self.per_class = {name: metric.clone() for name, metric in (per_class or {}).items()}
        self.labels_known = True
        self.reset()

    def to(self, device: torch.device) -> Self:
        """Move the metrics; to be called before the first update."""
        for metric in self._all().values():
            metric.to(device)
        return self

    def reset(self) -> None:
        """Forget all batches."""
        for metric in self._all().values():
            metric.reset()
        self.measured, self.images = 0, 0  # numbers of images: all, and those that are kept
        self.kept: dict[str, list[Tensor]] = {"means": [], "weights": [], "probabilities": [], "labels": []}

    def update(self, loss: Measured, logits: Tensor, target: Tensor) -> None:
        """Add a batch. It has no image on a rank that has none left.

        Args:
            loss: of the batch.
            logits: (B, K).
            target: (B,) int64, or (B, K) float, mixed or with -1 where unknown.
        """
        if len(target):
            self.kept["means"].append(loss.mean.detach().reshape(1))
            self.kept["weights"].append(loss.weight.detach().reshape(1))
        self.kept["probabilities"].append(probabilities(logits.detach(), self.task))
        self.kept["labels"].append(labels(target, self.task))
        self.measured += len(target)
        self.images += len(target)
        if self.images >= AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        kept = {name: torch.cat(tensors) for name, tensors in self.kept.items() if tensors}
        if "means" in kept:
            self.loss.update(kept["means"], kept["weights"])
        if kept:
            update([*self.metrics.values(), *self.per_class.values()], kept["probabilities"], kept["labels"])
        self.images, self.kept = 0, {name: [] for name in self.kept}

    def compute(self) -> dict[str, Tensor]:
        """Return the figures over all ranks, {name: scalar}. All ranks must call this at the same point.

        Raises:
            ValueError: no rank has measured an image. Some metrics would return a perfect figure.
        """
        self._flush()
        loss = self.loss.compute()
        if not self.loss.of_all_ranks["batches"]:
            raise ValueError(
                f"{self.prefix.partition('/')[0]}: none of its images could be read, so there are no figures"
            )
        self.labels_known = bool(self.loss.of_all_ranks["weight"] > 0)
        return {f"{self.prefix}loss": loss} | {name: metric.compute() for name, metric in self.metrics.items()}

    def compute_per_class(self) -> dict[str, Tensor]:
        """Return {name: (K,)} over all ranks, after `compute`. All ranks must call this at the same point."""
        return {name: metric.compute().reshape(-1) for name, metric in self.per_class.items()}  # of a K of 1 a scalar

    def states(self) -> list[dict[str, Any]]:
        """Return each rank's state as plain containers on the CPU. All ranks must call this at the same point."""
        kept = {name: [torch.cat(tensors)] if tensors else [] for name, tensors in self.kept.items()}
        return gather({name: _state(metric) for name, metric in self._all().items()} | {"kept": _on_cpu(kept)})

    def load(self, states: Sequence[dict[str, Any]], rank: int, world_size: int) -> None:
        """Restore what `states` returned. If it has more ranks than there are now, a rank restores several together."""
        mine = states[rank::world_size]
        for name, metric in self._all().items() if mine else ():
            _merge(metric, [state[name] for state in mine])
        for name, tensors in self.kept.items():
            tensors += [tensor.to(self.loss.device) for state in mine for tensor in state["kept"][name]]
        self.images = sum(len(labels) for labels in self.kept["labels"])

    def _all(self) -> dict[str, Metric]:
        per_class = {f"per class/{name}": metric for name, metric in self.per_class.items()}
        return {"loss": self.loss, **self.metrics, **per_class}


class MeanLoss(Metric):
    """The mean of the batches' mean losses, weighted; nan if the weights' sum is 0 or a loss is nan.

    TorchMetrics 1.9's MeanMetric ignores nan losses, or else the weights, and it reads each loss, so the program waits
    for the GPU.

    The integer and the fractional parts of the weights are summed separately: float32 is exact up to 2^24 only, and MPS
    has no float64.

    Attributes:
        of_all_ranks: after `compute`: "batches", how many there were, and "weight", the sum of their weights.
    """

    full_state_update = False
    higher_is_better = False
    total: Tensor
    known: Tensor
    fractions: Tensor
    batches: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("known", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("fractions", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("batches", torch.tensor(0), dist_reduce_fx="sum")
        self.of_all_ranks: dict[str, Tensor] = {}

    def update(self, mean: Tensor, weight: Tensor) -> None:
        """mean: of each batch, (n,) or a scalar; weight: the number of its known targets, or their sum of weights."""
        whole = weight.long()
        self.total += (mean.float() * weight).sum()
        self.known += whole.sum()
        self.fractions += (weight - whole).sum()
        self.batches += mean.numel()

    def compute(self) -> Tensor:
        """Return a scalar."""
        weight = self.known + self.fractions
        self.of_all_ranks = {"batches": self.batches, "weight": weight}
        return self.total / weight


def probabilities(logits: Tensor, task: Task) -> Tensor:
    """Return (B, K), float32: softmax over the classes, or a sigmoid for each."""
    logits = logits.float()
    return logits.sigmoid() if task == "multilabel" else logits.softmax(dim=1)


def labels(target: Tensor, task: Task) -> Tensor:
    """Return the labels for the metrics, (B,) or (B, K) int64: of mixed labels the heaviest, or those above 0.5."""
    if task == "multiclass" and target.ndim == 2:
        return target.argmax(dim=1)
    return target.round().long() if target.is_floating_point() else target


def update(metrics: Iterable[Metric], probabilities: Tensor, labels: Tensor) -> None:
    """Update each metric; with an empty batch, only the metrics whose states are lists.

    These need tensors of the right width for gathering. torchmetrics' other metrics refuse an empty batch.
    """
    for metric in metrics:
        if len(labels) or any(isinstance(state, list) for state in metric.metric_state.values()):
            metric.update(probabilities, labels)


def _state(metric: Metric) -> dict[str, Any]:
    return {name: _on_cpu(value) for name, value in metric.metric_state.items()} | {"updates": metric.update_count}


def _on_cpu(value: Any) -> Any:
    """Return a copy on the CPU, which later updates of the metric don't change."""
    if isinstance(value, dict):
        return {name: _on_cpu(part) for name, part in value.items()}
    return [_on_cpu(part) for part in value] if isinstance(value, list) else value.detach().cpu().clone()


def _merge(metric: Metric, states: list[dict[str, Any]]) -> None:
    """Set the metric's state to the sum of the ranks' states."""
    for name in metric.metric_state:
        values = [state[name] for state in states]
        if isinstance(values[0], list):
            merged: Any = [tensor.to(metric.device) for value in values for tensor in value]
        else:
            reduce = metric._reductions[name]
            assert callable(reduce)  # torchmetrics' own reduction over ranks
            merged = values[0].clone() if len(values) == 1 else reduce(torch.stack(values))
            merged = merged.to(metric.device)
        setattr(metric, name, merged)
    metric._update_count = sum(state["updates"] for state in states)
