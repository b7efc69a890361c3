import copy
import math
from typing import Any

import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import CatMetric, MeanMetric, Metric, SumMetric
from torchmetrics.classification import MulticlassAccuracy

from fovea.losses.bce import BinaryCrossEntropy
from fovea.metrics.auroc import MeanAUROC
from fovea.metrics.precision_recall import MacroF1, Recall
from fovea.training import meter
from fovea.training.batch_loss import BatchLoss
from fovea.training.meter import MeanLoss, Meter, labels, probabilities

K = 3
RANDOM = torch.Generator().manual_seed(0)
BATCHES = [(torch.randn(n, K, generator=RANDOM), torch.randint(0, K, (n,), generator=RANDOM)) for n in (5, 2, 4, 5, 1)]


class Column(CatMetric):
    def update(self, probabilities: Tensor, labels: Tensor) -> None:  # type: ignore[override]
        super().update(probabilities[:, 0])


class Mean(MeanMetric):
    def update(self, probabilities: Tensor, labels: Tensor) -> None:  # type: ignore[override]
        super().update(probabilities[:, 0])


class Sum(SumMetric):
    def update(self, probabilities: Tensor, labels: Tensor) -> None:  # type: ignore[override]
        super().update(probabilities[:, 0])


def make(**metrics: Metric) -> Meter:
    several = {"f1": MacroF1(K), "auroc": MeanAUROC(K), "all": Column(), "mean": Mean(), "sum": Sum()}
    return Meter("val/", "multiclass", metrics or several)


def fed(to: Meter, batches: list[tuple[Tensor, Tensor]], loss: Any = F.cross_entropy) -> Meter:
    for logits, target in batches:
        to.update(BatchLoss(loss, to.task)(logits, target), logits, target)
    return to


def computed(measured: Meter) -> dict[str, Tensor]:
    return {name: value.sort().values if value.ndim else value for name, value in measured.compute().items()}


def test_its_figures_are_those_of_all_images_whatever_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, target = (torch.cat(parts) for parts in zip(*BATCHES, strict=True))
    predicted = logits.argmax(1)
    for at_once in (1, 6, 1000):
        monkeypatch.setattr(meter, "AT_ONCE", at_once)
        found = fed(make(accuracy=MulticlassAccuracy(K, average="micro"), f1=MacroF1(K)), BATCHES).compute()
        assert {name: value.item() for name, value in found.items()} == {
            "val/loss": pytest.approx(F.cross_entropy(logits, target).item()),
            "val/accuracy": pytest.approx(accuracy_score(target, predicted)),
            "val/f1": pytest.approx(f1_score(target, predicted, average="macro")),
        }


def test_the_loss_of_several_labels_is_the_mean_over_what_is_known() -> None:
    targets = [torch.tensor([[1.0, 0, -1], [-1, -1, -1]]), torch.tensor([[0.0, 1, 1]])]
    batches = [(torch.randn(len(target), K, generator=RANDOM), target) for target in targets]
    losses = []
    for logits, target in batches:
        for p, label in zip(logits.sigmoid().flatten().tolist(), target.flatten().tolist(), strict=True):
            losses += [-math.log(p if label else 1 - p)] * (label >= 0)
    assert len(losses) == 5
    found = fed(Meter("", "multilabel", {}), batches, BinaryCrossEntropy())
    assert found.compute()["loss"].item() == pytest.approx(sum(losses) / 5)
    assert found.labels_known


def test_where_no_label_is_known_the_loss_is_undefined() -> None:
    found = fed(Meter("", "multilabel", {}), [(torch.zeros(2, K), -torch.ones(2, K))], BinaryCrossEntropy())
    assert found.compute()["loss"].isnan()
    assert not found.labels_known


def test_a_batch_without_images_changes_nothing_and_nothing_but_such_batches_is_refused() -> None:
    nothing = (torch.zeros(0, K), torch.zeros(0, dtype=torch.long))
    with_it, without = computed(fed(make(), [nothing, *BATCHES, nothing])), computed(fed(make(), BATCHES))
    assert all(torch.equal(value, without[name]) for name, value in with_it.items())
    with pytest.raises(ValueError, match="val: none of its images could be read"), pytest.warns(match="before the"):
        fed(make(), [nothing]).compute()


def test_a_class_has_its_own_figures() -> None:
    found = Meter("", "multiclass", {}, {"recall": Recall(K)})
    fed(found, [(torch.eye(K)[[0, 1, 1]], torch.tensor([0, 1, 2]))]).compute()
    assert found.compute_per_class()["recall"].tolist() == [1, 1, 0]


def test_a_reset_forgets_everything_that_waits_too() -> None:
    found = fed(make(), BATCHES[3:])
    found.reset()
    for name, value in computed(fed(found, BATCHES[:3])).items():
        assert torch.equal(value, computed(fed(make(), BATCHES[:3]))[name]), name


@pytest.mark.parametrize("at_once", [1, 6, 1000])
def test_figures_taken_up_half_way_end_as_those_of_one_go(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meter, "AT_ONCE", at_once)
    again = make()
    again.load(fed(make(), BATCHES[:4]).states(), rank=0, world_size=1)
    for name, value in computed(fed(again, BATCHES[4:])).items():
        assert torch.equal(value, computed(fed(make(), BATCHES))[name]), name


def test_what_is_saved_does_not_move_with_the_meter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meter, "AT_ONCE", 6)
    measured = fed(make(), BATCHES[:3])
    saved = measured.states()
    before = copy.deepcopy(saved)
    fed(measured, BATCHES[3:])
    torch.testing.assert_close(saved, before, rtol=0, atol=0)


def test_those_of_three_ranks_are_shared_out_over_two() -> None:
    saved = [fed(make(), BATCHES[2 * rank : 2 * rank + 2]).states()[0] for rank in range(3)]
    one, two, alone = make(), make(), make()
    one.load(saved, rank=0, world_size=2)
    two.load(saved, rank=1, world_size=2)
    expected, first, second = computed(fed(make(), BATCHES)), computed(one), computed(two)
    torch.testing.assert_close(first["val/sum"] + second["val/sum"], expected["val/sum"])
    assert torch.equal(torch.cat([first["val/all"], second["val/all"]]).sort().values, expected["val/all"])
    alone.load(saved, rank=0, world_size=1)
    for name, value in computed(alone).items():
        torch.testing.assert_close(value, expected[name], msg=name)


def test_a_rank_that_is_new_begins_with_nothing() -> None:
    new = make()
    new.load(fed(make(), BATCHES).states(), rank=1, world_size=2)
    assert not new.images
    assert not any(metric.update_called for metric in new.metrics.values())


def test_probabilities_are_a_softmax_or_a_sigmoid() -> None:
    logits = torch.randn(4, 3).half()
    torch.testing.assert_close(probabilities(logits, "multiclass"), logits.float().softmax(1))
    torch.testing.assert_close(probabilities(logits, "multilabel"), logits.float().sigmoid())


def test_mixed_labels_are_measured_by_their_heaviest_class() -> None:
    mixed = torch.tensor([[0.2, 0.8, 0.0], [0.6, 0.0, 0.4]])
    assert labels(mixed, "multiclass").tolist() == [1, 0]


def test_mixed_labels_of_several_classes_are_measured_by_those_above_a_half() -> None:
    assert labels(torch.tensor([[0.3, 0.7, -1.0, 1.0, 0.0]]), "multilabel").tolist() == [[0, 1, -1, 1, 0]]


def mean(*batches: tuple[float, float]) -> float:
    metric = MeanLoss()
    for value, known in batches:
        metric.update(torch.tensor(value), torch.tensor(known))
    return metric.compute().item()


def test_batches_count_by_what_is_known_in_them() -> None:
    assert mean((1.0, 3), (5.0, 1), (7.0, 0)) == pytest.approx((1 * 3 + 5) / 4)


def test_weights_may_be_fractions() -> None:
    assert mean((1.0, 0.25), (5.0, 1.5), (7.0, 0.0)) == pytest.approx((0.25 + 7.5) / 1.75)


def test_it_is_undefined_where_nothing_is_known() -> None:
    assert math.isnan(mean((0.0, 0), (0.0, 0)))


def test_one_loss_that_is_no_number_makes_the_mean_none() -> None:
    assert not torch.tensor(mean((1.0, 3), (torch.nan, 3), (1.0, 3))).isfinite()
    assert mean((1.0, 3), (torch.inf, 3)) == torch.inf


def test_a_billion_labels_are_counted_exactly() -> None:
    """float32 counts to 2^24."""
    metric = MeanLoss()
    metric.update(torch.tensor([1.0, 1.0]), torch.tensor([2**30, 1]))
    assert metric.known == 2**30 + 1
