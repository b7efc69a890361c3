import torch
from torch import nn
from torchmetrics import CatMetric, MeanMetric, SumMetric

from fovea.metrics.auroc import MeanAUROC
from fovea.metrics.precision_recall import MacroF1
from fovea.training import metric_states
from fovea.training.metric_states import put_back

SCORES = torch.randn(6, 4, 3, generator=torch.Generator().manual_seed(0))
BATCHES = [(scores, torch.tensor([0, 1, 2, n % 3])) for n, scores in enumerate(SCORES)]


def metrics() -> nn.ModuleDict:
    ours = {"f1": MacroF1(3), "auroc": MeanAUROC(3)}
    return nn.ModuleDict({**ours, "all": CatMetric(), "mean": MeanMetric(), "sum": SumMetric()})


def update(parts: nn.ModuleDict, batches: list) -> nn.ModuleDict:
    for logits, labels in batches:
        parts["f1"].update(logits, labels)
        parts["auroc"].update(logits, labels)
        for name in ("all", "mean", "sum"):
            parts[name].update(logits[:, 0])
    return parts


def computed(parts: nn.ModuleDict) -> dict[str, torch.Tensor]:
    return {
        name: metric.compute().sort().values if name == "all" else metric.compute() for name, metric in parts.items()
    }


def test_figures_taken_up_half_way_end_as_those_of_one_go() -> None:
    saved = metric_states.of(update(metrics(), BATCHES[:4]))
    again = metrics()
    put_back(again, saved, rank=0, world_size=1)
    for name, value in computed(update(again, BATCHES[4:])).items():
        assert torch.equal(value, computed(update(metrics(), BATCHES))[name]), name


def test_what_is_saved_does_not_move_with_the_metric() -> None:
    parts = update(metrics(), BATCHES[:1])
    saved = metric_states.of(parts)
    before = saved[0]["sum"]["sum_value"].clone()
    update(parts, BATCHES[1:])
    assert torch.equal(saved[0]["sum"]["sum_value"], before)


def test_those_of_three_ranks_are_shared_out_over_two() -> None:
    saved = [metric_states.of(update(metrics(), BATCHES[2 * rank : 2 * rank + 2]))[0] for rank in range(3)]
    one, two = metrics(), metrics()
    put_back(one, saved, rank=0, world_size=2)
    put_back(two, saved, rank=1, world_size=2)
    expected = computed(update(metrics(), BATCHES))
    assert torch.allclose(one["sum"].compute() + two["sum"].compute(), expected["sum"])
    assert torch.equal(torch.cat([one["all"].compute(), two["all"].compute()]).sort().values, expected["all"])
    alone = metrics()
    put_back(alone, saved, rank=0, world_size=1)
    for name, value in computed(alone).items():
        assert torch.allclose(value, expected[name]), name


def test_a_rank_that_is_new_begins_with_nothing() -> None:
    new = metrics()
    put_back(new, metric_states.of(update(metrics(), BATCHES)), rank=1, world_size=2)
    assert not new["sum"].update_called
