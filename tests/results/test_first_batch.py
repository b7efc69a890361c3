"""The first batch is made again from single images, one after the other."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers import make_folder
from tasks import make_task
from torch import Tensor

from fovea.data.index import Index, Splits
from fovea.data.loading.datamodule import ImageDataModule
from fovea.data.loading.dataset import ImageDataset
from fovea.data.pixels.augment import Augment
from fovea.data.pixels.crop import RandomResizedCrop
from fovea.data.pixels.normalize import Normalize
from fovea.results.first_batch import MOST, entered
from fovea.training.step_seed import seed_step

NAMES = ("cat", "dog", "owl")


@pytest.fixture
def splits(tmp_path: Path) -> Splits:
    make_folder(tmp_path, NAMES, images=15)

    def index(numbers: range) -> Index:
        paths = [str(tmp_path / name / f"{n}.png") for name in NAMES for n in numbers]
        return Index(paths, torch.arange(3).repeat_interleave(len(numbers)))

    return Splits("multiclass", NAMES, index(range(14)), index(range(14, 15)))


def datamodule(splits: Splits, world_size: int = 1, **options: Any) -> ImageDataModule:
    augment = Augment(RandomResizedCrop(8))
    data = ImageDataModule(lambda root: splits, None, {"train": augment, "eval": augment}, 8, 40, seed=5, **options)
    data.trainer = SimpleNamespace(world_size=world_size)  # type: ignore[assignment]
    return data


def flip(images: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Mix with the batch in the opposite order, by a random share."""
    share, labels = torch.rand(()), torch.eye(3)[target]
    return images.lerp(images.flip(0), share), labels.lerp(labels.flip(0), share)


@pytest.mark.parametrize("world_size", [1, 2])
def test_it_equals_what_rank_0_computes_in_its_first_step(splits: Splits, world_size: int) -> None:
    data = datamodule(splits, world_size)
    normalize = Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    task = make_task(mixing=flip, preprocess=normalize, seed=9)
    state = torch.get_rng_state()
    images, labels = entered(task, data)
    assert torch.equal(torch.get_rng_state(), state)

    dataset = ImageDataset(data.splits["train"], data.augment["train"], 5)
    drawn = data.train_sampler.draw(5, 0)[:40:world_size].tolist()
    batch = [dataset[(0, number, 0)] for number in drawn]
    seed_step(9, 0, 0, torch.device("cpu"))
    share = float(torch.rand(()))
    for n, ((one, label), (other, second)) in enumerate(list(zip(batch, batch[::-1], strict=True))[:MOST]):
        expected = one.float().lerp(other.float(), share)
        assert (images[n].float() - expected).abs().max() <= 0.5 + 1e-3
        both = sorted([(1 - share, NAMES[label]), (share, NAMES[second])], reverse=True)
        assert labels[n] == (NAMES[label] if label == second else ", ".join(f"{name} {s:.2f}" for s, name in both))
    assert len(images) == len(labels) == MOST


def test_without_mixing_a_label_is_its_name_and_other_inputs_are_stretched_to_all_brightnesses(splits: Splits) -> None:
    images, labels = entered(make_task(preprocess=_Half()), datamodule(splits))
    assert set(labels) <= set(NAMES)
    assert (int(images.min()), int(images.max())) == (0, 255)


class _Half(torch.nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images / 512 - 3


def test_several_labels_are_all_named(splits: Splits) -> None:
    assert splits.train is not None
    targets = torch.tensor([[1, 0, -1]] * 41 + [[1, 1, 0]], dtype=torch.int8)
    several = replace(splits, task="multilabel", train=splits.train.with_targets(targets), val=None, test=None)
    labels = entered(make_task(task="multilabel"), datamodule(several, val_fraction=0.02)).labels
    assert set(labels) <= {"cat", "dog, cat"}


def test_unreadable_images_are_left_out(splits: Splits) -> None:
    assert splits.train is not None
    for path in splits.train.paths[:-5]:
        Path(path).write_bytes(b"no image")
    assert 3 <= len(entered(make_task(), datamodule(splits)).labels) <= 5
    for path in splits.train.paths[-5:]:
        Path(path).write_bytes(b"no image")
    assert entered(make_task(), datamodule(splits)).labels == []
