"""Distances from a teacher, compared with torch.distributions, and trainings with a plain loop."""

import functools
from typing import Any

import pytest
import torch
from tasks import Data, K, make_batches, make_task, make_trainer, network
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, kl_divergence
from torch.nn import functional as F

from fovea.losses.bce import BinaryCrossEntropy
from fovea.objectives.distillation import hard_distance, hard_distillation, soft_distance, soft_distillation
from fovea.objectives.divergence import divergence
from fovea.objectives.teacher import Teacher, rescaling

LOGITS, OTHERS = (torch.randn(6, 4, generator=torch.Generator().manual_seed(seed)) * 3 for seed in (0, 1))


def test_the_divergence_is_that_of_torchs_distributions() -> None:
    of_images = kl_divergence(Categorical(logits=LOGITS), Categorical(logits=OTHERS))
    torch.testing.assert_close(divergence(LOGITS, OTHERS, "multiclass"), of_images.mean())
    of_labels = kl_divergence(Bernoulli(logits=LOGITS), Bernoulli(logits=OTHERS))
    torch.testing.assert_close(divergence(LOGITS, OTHERS, "multilabel"), of_labels.mean())
    assert divergence(LOGITS, LOGITS, "multilabel").item() == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_extreme_logits_have_a_finite_divergence(task: Any) -> None:
    far = torch.tensor([[1000.0, -1000.0]])
    assert divergence(far, -far, task).isfinite()


def test_the_soft_distance_compares_softened_predictions_and_keeps_its_gradient() -> None:
    expected = 9 * kl_divergence(Categorical(logits=OTHERS / 3), Categorical(logits=LOGITS / 3)).mean()
    torch.testing.assert_close(soft_distance(LOGITS, OTHERS, 3.0, "multiclass"), expected)
    logits = LOGITS.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(soft_distance(logits, OTHERS, 3.0, "multiclass"), logits)
    torch.testing.assert_close(gradient, 3 * ((LOGITS / 3).softmax(1) - (OTHERS / 3).softmax(1)) / 6)


def test_the_hard_distance_takes_the_teachers_decision_as_the_label() -> None:
    by_image = [-LOGITS[i].log_softmax(0)[OTHERS[i].argmax()] for i in range(6)]
    torch.testing.assert_close(hard_distance(LOGITS, OTHERS, "multiclass"), torch.stack(by_image).mean())
    expected = F.binary_cross_entropy(LOGITS.sigmoid(), (OTHERS.sigmoid() >= 0.5).float())
    torch.testing.assert_close(hard_distance(LOGITS, OTHERS, "multilabel"), expected)


def make_teacher() -> nn.Module:
    torch.manual_seed(7)
    return nn.Sequential(nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(36, K))


OBJECTIVES: dict[str, Any] = {
    "soft": functools.partial(soft_distillation, task="multiclass", alpha=0.7, temperature=2.0),
    "hard": functools.partial(hard_distillation, task="multiclass", alpha=0.7),
}


def without_dropout() -> nn.Sequential:
    student = network()
    student[3] = nn.Identity()
    return student


def by_hand(kind: str) -> dict[str, Tensor]:
    """Three steps of SGD."""
    student, teacher = without_dropout(), make_teacher().eval()
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    for batch in make_batches(3):
        logits, wanted = student(batch.images), teacher(batch.images).detach()
        if kind == "hard":
            distance = F.cross_entropy(logits, wanted.argmax(1))
        else:
            p = (wanted / 2).softmax(1)
            distance = 4 * (p * (p.log() - (logits / 2).log_softmax(1))).sum(1).mean()
        optimizer.zero_grad()
        (0.3 * F.cross_entropy(logits, batch.targets) + 0.7 * distance).backward()
        optimizer.step()
    return student.state_dict()


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_a_training_with_a_teacher_equals_a_plain_loop_and_keeps_no_teacher(kind: str) -> None:
    student, teacher = without_dropout(), Teacher(make_teacher())
    made = functools.partial(OBJECTIVES[kind], teacher=teacher)
    task = make_task(network=student, objective=lambda loss: functools.partial(made, loss=loss))
    make_trainer(max_epochs=1).fit(task, datamodule=Data(make_batches(3)))
    for name, tensor in by_hand(kind).items():
        torch.testing.assert_close(student.state_dict()[name], tensor)
    assert {name.partition(".")[0] for name in task.state_dict()} == {"network"}
    assert len(list(task.parameters())) == len(list(student.parameters()))
    before, after = make_teacher().state_dict(), teacher.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_of_several_labels_unknown_ones_count_in_the_distance_alone() -> None:
    generator = torch.Generator().manual_seed(3)
    labels = [torch.randint(-1, 2, (5, K), generator=generator).float() for _ in range(3)]
    batches = [one._replace(targets=target) for one, target in zip(make_batches(3), labels, strict=True)]
    student, by_loop, teacher = without_dropout(), without_dropout(), make_teacher().eval()
    made = functools.partial(
        soft_distillation, teacher=Teacher(make_teacher()), task="multilabel", alpha=0.7, temperature=2.0
    )
    options: dict[str, Any] = {"metrics": {}, "per_class_metrics": {}, "loss": BinaryCrossEntropy()}
    task = make_task(
        task="multilabel", network=student, objective=lambda loss: functools.partial(made, loss=loss), **options
    )
    make_trainer(max_epochs=1).fit(task, datamodule=Data(batches))
    optimizer = torch.optim.SGD(by_loop.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    for batch in batches:
        logits, wanted = by_loop(batch.images), teacher(batch.images).detach()
        known = batch.targets != -1
        loss = F.binary_cross_entropy_with_logits(logits[known], batch.targets[known])
        distance = 4 * kl_divergence(Bernoulli(logits=wanted / 2), Bernoulli(logits=logits / 2)).mean()
        optimizer.zero_grad()
        (0.3 * loss + 0.7 * distance).backward()
        optimizer.step()
    for name, parameter in by_loop.named_parameters():
        torch.testing.assert_close(dict(student.named_parameters())[name], parameter)


def test_a_teacher_gives_logits_without_gradient_and_without_dropout() -> None:
    images = torch.randn(2, 3, 4, 4)
    logits = Teacher(make_teacher())(images)
    assert not logits.requires_grad
    assert torch.equal(logits, make_teacher().eval()(images))
    assert Teacher(make_teacher())(images.double()).dtype == torch.float64


def test_a_teacher_gets_pixels_as_its_own_normalization_gives_them() -> None:
    pixels = torch.randint(0, 256, (2, 3, 4, 4)).float()
    mean, std = torch.full((3, 1, 1), 100.0), torch.full((3, 1, 1), 50.0)
    own = torch.tensor([90.0, 10, 0]).view(3, 1, 1), torch.tensor([255.0, 30, 7]).view(3, 1, 1)
    teacher = Teacher(nn.Identity(), rescale=rescaling(mean, std, own))
    torch.testing.assert_close(teacher((pixels - mean) / std), (pixels - own[0]) / own[1])


def test_images_of_another_size_are_resized_for_the_teacher() -> None:
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(Teacher(nn.Identity(), image_size=8)(images), images)
    resized = Teacher(nn.Identity(), image_size=4)(images)
    torch.testing.assert_close(resized, F.interpolate(images, scale_factor=0.5, mode="bilinear", antialias=True))
