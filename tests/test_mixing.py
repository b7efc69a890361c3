"""conf/mixing: what a mixed batch is, where its randomness comes from, and that training with it can be resumed."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conf_groups import GROUPS
from helpers import SMALL
from hydra.utils import instantiate
from omegaconf import OmegaConf
from tasks import Data, make_batches, make_task, make_trainer
from torch import Tensor, nn

from fovea.config.resolvers import CONF
from fovea.losses.bce import BinaryCrossEntropy
from fovea.training.batch_loss import BatchLoss
from fovea.training.loss_check import check_mixed

K = 3
OPTIONS = ("mixup", "cutmix", "mixup_cutmix", "mixup_cutmix_erasing")


def build(name: str) -> Any:
    config = OmegaConf.create({"num_classes": K, "mixing": OmegaConf.load(CONF / "mixing" / f"{name}.yaml")})
    return instantiate(config.mixing, _convert_="all")


def images(n: int = 6) -> Tensor:
    """(N, 3, 8, 8); each pixel of an image tells which image it is."""
    return torch.arange(n, dtype=torch.float32).view(n, 1, 1, 1).expand(n, 3, 8, 8).contiguous()


TARGET = torch.tensor([0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize("name", GROUPS["mixing"])
def test_every_mixing_gives_images_of_the_same_shape_and_labels_that_sum_to_one(name: str) -> None:
    torch.manual_seed(0)
    mixed, target = build(name)(images(), TARGET)
    assert mixed.shape == images().shape
    assert target.ndim == 1 or torch.allclose(target.sum(dim=1), torch.ones(len(TARGET)))


def test_either_takes_its_turn() -> None:
    torch.manual_seed(0)
    mixing, seen = build("mixup_cutmix"), set()
    for _ in range(20):
        mixed, _ = mixing(images(), TARGET)
        seen.add(bool((mixed == mixed.round()).all()))  # cutmix leaves pixels whole
    assert seen == {True, False}


def test_none_changes_nothing() -> None:
    mixed, target = build("none")(images(), TARGET)
    assert torch.equal(mixed, images())
    assert torch.equal(target, TARGET)


@pytest.mark.parametrize("name", OPTIONS)
def test_the_draws_follow_from_torchs_seed_alone(name: str) -> None:
    def drawn(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return torch.cat([build(name)(images(), TARGET)[0] for _ in range(3)])

    first = drawn(5)
    random.seed(99)
    np.random.seed(99)
    assert torch.equal(first, drawn(5))
    assert not torch.equal(first, drawn(6))


@pytest.mark.parametrize("name", OPTIONS)
def test_a_loss_of_class_indices_is_refused_with_mixed_labels_and_no_other_loss_is(name: str) -> None:
    task = make_task(mixing=build(name))
    for loss in (nn.NLLLoss(), nn.MultiMarginLoss()):
        with pytest.raises(ValueError, match=r"the labels that mixing= makes(?s:.*)mixing=none, or loss=cross_entropy"):
            check_mixed(BatchLoss(loss, "multiclass"), task.mix, K, 8)
        check_mixed(BatchLoss(loss, "multiclass"), make_task().mix, K, 8)
    check_mixed(BatchLoss(nn.CrossEntropyLoss(torch.ones(K)), "multiclass"), task.mix, K, 8)


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize(
    "loss", [nn.CrossEntropyLoss(), nn.CrossEntropyLoss(label_smoothing=0.1), BinaryCrossEntropy()]
)
def test_a_step_takes_the_loss_of_the_mixed_labels(name: str, loss: nn.Module) -> None:
    task, (batch,) = make_task(mixing=build(name), loss=loss), make_batches(1)
    task.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    task.eval()
    torch.manual_seed(3)
    got = task.training_step(batch, 0)
    torch.manual_seed(3)
    mixed, target = build(name)(batch.images, batch.targets)
    assert target.shape == (5, K)
    torch.testing.assert_close(got, loss(task.network(mixed), target))


def test_validation_and_test_are_not_mixed() -> None:
    def never(images: Tensor, target: Tensor) -> Any:
        raise AssertionError

    task, trainer = make_task(mixing=never), make_trainer()
    data = Data([], make_batches(1))
    trainer.validate(task, datamodule=data, verbose=False)
    trainer.test(task, datamodule=data, verbose=False)


@pytest.mark.parametrize("name", ["none", *OPTIONS])
def test_a_label_mixed_with_an_unknown_one_is_unknown_and_the_rest_is_mixed(name: str) -> None:
    known = torch.tensor([[1.0, 0, 1], [0, 1, 1], [1, 1, 0], [0, 0, 1]])
    unknown = torch.zeros(4, K, dtype=torch.bool)
    unknown[1, 2] = True
    task = make_task(task="multilabel", mixing=build(name))
    torch.manual_seed(4)
    _, target = task.mix(images(4), known.masked_fill(unknown, -1))
    torch.manual_seed(4)
    expected = build(name)(images(4), known)[1]
    neither = unknown if name == "none" else unknown | unknown.flip(0)
    assert torch.equal(target == -1, neither)
    torch.testing.assert_close(target[~neither], expected[~neither])


def state(run: Path) -> dict[str, Any]:
    return torch.load(run / "checkpoints/last.ckpt", weights_only=True)


def equal(first: Any, second: Any) -> bool:
    if isinstance(first, Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[key], second[key]) for key in first)
    if isinstance(first, list):
        return len(first) == len(second) and all(map(equal, first, second))
    return bool(first == second)


@pytest.mark.slow
def test_a_run_with_everything_random_and_averaged_is_resumed_bit_for_bit(
    invoke: Callable[..., Any], runs: Callable[[], list[Path]], folder: Path
) -> None:
    """Augmentation, growing images, mixing, dropout, accumulation, averaging."""
    words = [
        *("data=folder", f"data.root={folder}", *SMALL, "augment=rand_augment"),
        *("model=mobilenet_v2", "model.width_mult=0.25"),
        *("mixing=mixup_cutmix", "callbacks=[default,ema]", "trainer.accumulate_grad_batches=2"),
        *("trainer.max_epochs=2", "on_nan=skip", "scheduler=constant"),
        *("data.progressive.start=12", "data.progressive.epochs=2", "data.progressive.step=2", "data.num_workers=1"),
    ]
    assert invoke("train", *words).code == 0
    (whole,) = runs()
    assert invoke("train", *words, "trainer.max_steps=3").code == 0  # in the second epoch, of two steps
    (stopped,) = set(runs()) - {whole}
    assert state(stopped)["global_step"] == 3
    assert invoke("train", f"resume={stopped}", "trainer.max_steps=-1").code == 0
    for key in ("state_dict", "state_dict_ema", "optimizer_states"):
        assert equal(state(whole)[key], state(stopped)[key]), key


@pytest.mark.slow
def test_multilabel_data_with_unknown_labels_can_be_mixed(
    invoke: Callable[..., Any], runs: Callable[[], list[Path]], folder: Path, tmp_path: Path
) -> None:
    with (tmp_path / "labels.csv").open("w") as out:
        out.write("path,split,dark,bright\n")
        for i, file in enumerate(sorted(folder.rglob("*.png"))):
            split = file.relative_to(folder).parts[0]
            out.write(f"{file.relative_to(tmp_path)},{split},{i % 3 - 1},{int('owl' in str(file))}\n")
    code, _, err = invoke("train", "data=multilabel_csv", f"data.root={tmp_path}", *SMALL, "mixing=mixup_cutmix")
    assert code == 0, err
    (run,) = runs()
    assert all(t.isfinite().all() for t in state(run)["state_dict"].values())
