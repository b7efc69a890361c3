"""The figures that an epoch gathers, half-way: kept in a checkpoint, for torchmetrics and Lightning don't."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from fovea.distributed.gather import gather

States = dict[str, dict[str, Any]]  # metric's name -> its tensors, or lists of tensors, and how often it was updated


def update(metrics: Iterable[Metric], probabilities: Tensor, labels: Tensor) -> None:
    """Update each metric; on a rank that has no image left, only those that gather lists.

    Those need rows of the right width to gather, if none; torchmetrics' counting metrics refuse an empty batch.
    """
    for metric in metrics:
        if len(labels) or any(isinstance(state, list) for state in metric.metric_state.values()):
            metric.update(probabilities, labels)


def of(metrics: nn.Module) -> list[States]:
    """The states of all metrics within a module, of each rank; all ranks must ask together."""
    return gather({name: _state(metric) for name, metric in metrics.named_modules() if isinstance(metric, Metric)})


def put_back(metrics: nn.Module, everyones: list[States], rank: int, world_size: int) -> None:
    """Take this rank's states up again; of a larger number of ranks, those of some ranks together."""
    mine = everyones[rank::world_size]
    for name, metric in metrics.named_modules():
        if isinstance(metric, Metric) and mine:
            _merge(metric, [states[name] for states in mine])


def _state(metric: Metric) -> dict[str, Any]:
    values = {name: _on_cpu(value) for name, value in metric.metric_state.items()}
    return values | {"updates": metric.update_count}


def _on_cpu(value: Any) -> Any:
    """A copy: the metric goes on with its own."""
    return [_on_cpu(part) for part in value] if isinstance(value, list) else value.detach().cpu().clone()


def _merge(metric: Metric, states: list[Mapping[str, Any]]) -> None:
    for name in metric.metric_state:
        values = [state[name] for state in states]
        if isinstance(values[0], list):
            merged: Any = [tensor.to(metric.device) for value in values for tensor in value]
        else:
            reduce = metric._reductions[name]
            assert callable(reduce)  # as torchmetrics uses it over ranks
            merged = (values[0] if len(values) == 1 else reduce(torch.stack(values))).to(metric.device)
        setattr(metric, name, merged)
    metric._update_count = sum(state["updates"] for state in states)
