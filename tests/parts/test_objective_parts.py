"""Objectives are built from the config, with the loss that they get."""

import functools
from pathlib import Path

import pytest
import torch
from conf_groups import composed
from helpers import SMALL
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, kl_divergence
from torch.nn import functional as F
from torchvision.models import ResNet18_Weights, resnet18

from fovea import build
from fovea.config import saved
from fovea.config.check import check
from fovea.data.pixels.normalize import Normalize
from fovea.load_run import load_run
from fovea.objectives.teacher import Teacher
from fovea.parts import objective_parts


def test_a_task_that_is_to_be_trained_minimizes_the_objective_of_the_config() -> None:
    task = build.task(composed("data=digits"))
    assert task.objective is not None
    target = torch.tensor([0, 6, 3])
    measured, logits = task.objective(task.network.eval(), torch.randn(3, 3, 16, 16), target)
    torch.testing.assert_close(measured.value, nn.functional.cross_entropy(logits, target))
    assert build.task(composed("data=digits"), to_train=False).objective is None


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["+objective.weight=2"], "supervised has no argument weight"),
        (["+objective.teacher=/nope"], "supervised has no argument teacher"),  # before the teacher is looked for
        (["objective._target_=math.isqrt"], "isqrt has no argument loss, which the training passes to it"),
        (["objective._target_=fovea.objectives.supervised.superb"], r"superb can't be imported \(ModuleNotFoundError"),
    ],
)
def test_an_objective_that_does_not_take_its_keys_is_refused_before_training(words: list[str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        objective_parts.objective(composed(*words), nn.CrossEntropyLoss())


class Opposite(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return -images


def test_a_distance_from_a_teacher_is_that_of_the_datas_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """With logits in place of images, and a loss of 0."""
    monkeypatch.setattr(objective_parts, "teacher", lambda cfg, place: Teacher(Opposite()))
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    soft = {
        "multiclass": kl_divergence(Categorical(logits=-logits / 4), Categorical(logits=logits / 4)).mean(),
        "multilabel": kl_divergence(Bernoulli(logits=-logits / 4), Bernoulli(logits=logits / 4)).mean(),
    }
    hard = {
        "multiclass": F.cross_entropy(logits, logits.argmin(1)),
        "multilabel": F.binary_cross_entropy_with_logits(logits, (logits <= 0).float()),
    }
    for task in soft:
        for name, expected in (("distillation", 0.9 * 16 * soft[task]), ("hard_distillation", 0.5 * hard[task])):
            cfg = composed("data=digits", f"objective={name}", "objective.teacher=any")
            cfg.task = task
            objective = objective_parts.objective(cfg, lambda logits, target: logits.sum() * 0)
            found, _ = objective(nn.Identity(), logits, torch.zeros(5))
            torch.testing.assert_close(found, expected)


def distilled(run: Path | str, *words: str) -> DictConfig:
    cfg = composed("data=digits", "objective=distillation", *words)
    cfg.objective.teacher = str(run) if isinstance(run, Path) else run
    return cfg


def teacher_of(cfg: DictConfig) -> Teacher:
    made = objective_parts.objective(cfg, nn.CrossEntropyLoss())
    assert isinstance(made, functools.partial)
    found = made.keywords["teacher"]
    assert isinstance(found, Teacher)
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with random weights, other ones as their average, a classifier of cosines, and pixels of its own."""
    folder = tmp_path_factory.mktemp("runs") / "a run"
    words = ("preprocess.mean=[0.1,0.2,0.3]", "callbacks=[default,ema]", "monitor=val/ema_accuracy", "cosine_scale=9")
    cfg = composed(*SMALL, "data=digits", *words, "data.image_size=24")
    cfg.run_dir = str(folder)
    (folder / "checkpoints").mkdir(parents=True)
    saved.save(cfg, folder)
    task = build.task(cfg)
    average = {name: value * 0.5 for name, value in task.network.state_dict().items()}
    torch.save({"state_dict": task.state_dict(), "state_dict_ema": average}, folder / "checkpoints" / "best.ckpt")
    return folder


def test_a_teacher_predicts_as_its_run_does_with_its_own_normalization_and_image_size(run: Path) -> None:
    cfg, loaded = distilled(run), load_run(run, "cpu")
    teacher = teacher_of(cfg)
    pixels = torch.randint(0, 256, (3, 3, 24, 24), dtype=torch.uint8)
    with torch.no_grad():
        expected = loaded.task(pixels)
    torch.testing.assert_close(teacher(instantiate(cfg.preprocess)(pixels)), expected)
    assert teacher(torch.randn(2, 3, 48, 48)).shape == (2, 7)


def test_the_students_weights_and_the_random_numbers_do_not_depend_on_the_teacher(run: Path) -> None:
    with_teacher, first = build.task(distilled(run)), torch.rand(3)
    without, second = build.task(composed("data=digits")), torch.rand(3)
    assert torch.equal(first, second)
    assert all(map(torch.equal, with_teacher.state_dict().values(), without.state_dict().values()))
    assert with_teacher.state_dict().keys() == without.state_dict().keys()


def test_an_evaluation_does_not_need_the_teacher() -> None:
    assert build.task(distilled("gone"), to_train=False).objective is None


def test_a_network_with_a_weights_file_is_a_teacher(tmp_path: Path) -> None:
    words = ("+model@objective.teacher=se_resnet_small", f"+objective.teacher.weights={tmp_path}/weights.pth")
    cfg = composed("data=digits", "objective=distillation", *words)
    network = build.task(composed("data=digits", "model=se_resnet_small", "seed=5")).network.eval()
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(teacher_of(cfg)(images), network(images))


def test_a_teacher_with_published_weights_gets_images_that_are_normalized_as_for_these(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    published = resnet18().state_dict()
    monkeypatch.setattr(ResNet18_Weights, "get_state_dict", lambda self, **options: published)
    words = ("+model@objective.teacher=torchvision", "objective.teacher.weights=DEFAULT", "preprocess.mean=[0,0,0]")
    cfg = composed("data=digits", "objective=distillation", *words)
    cfg.num_classes, cfg.class_names = 1000, ResNet18_Weights.DEFAULT.meta["categories"]
    network = resnet18().eval()
    network.load_state_dict(published)
    pixels = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    own = Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    torch.testing.assert_close(teacher_of(cfg)(instantiate(cfg.preprocess)(pixels)), network(own(pixels)))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["+model@objective.teacher=se_resnet_small"], r"no trained weights for \d+ tensors, such as \w+"),
        (["objective.teacher=gone"], "objective.teacher=gone: run=gone: no run folder"),
        (["objective.teacher=null"], "objective.teacher is null"),
    ],
)
def test_a_teacher_without_weights_is_refused(words: list[str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        teacher_of(composed("data=digits", "objective=distillation", *words))


def test_a_teacher_of_other_classes_or_another_preprocess_is_refused(run: Path) -> None:
    cfg = distilled(run)
    cfg.class_names = list("abxdefg")
    with pytest.raises(ValueError, match="7 classes are not this data's 7, in the same order: at first c and x"):
        teacher_of(cfg)
    cfg = distilled(run)
    cfg.task = "multilabel"
    with pytest.raises(ValueError, match="the teacher is multiclass and this data is multilabel"):
        teacher_of(cfg)
    cfg = distilled(run)
    cfg.preprocess = {"_target_": "torch.nn.Identity"}
    with pytest.raises(ValueError, match="the teacher has another preprocess"):
        teacher_of(cfg)


def test_a_training_needs_the_teachers_run_before_torch_is_imported_and_an_evaluation_does_not() -> None:
    cfg = distilled("gone")
    with pytest.raises(ValueError, match="objective.teacher=gone: there is no such run folder"):
        check(cfg, "train")
    check(cfg, "evaluate")
