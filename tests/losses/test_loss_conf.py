"""Every yaml of conf/loss builds a loss that falls as the right logit rises."""

import contextlib
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from fovea.data.index import UNKNOWN, Task
from fovea.training.batch_loss import BatchLoss
from fovea.training.loss_check import check_loss

YAMLS = sorted((Path(__file__).resolve().parents[2] / "conf" / "loss").glob("*.yaml"))

TARGETS: dict[Task, torch.Tensor] = {  # of two images of class 1
    "multiclass": torch.tensor([1, 1]),
    "multilabel": torch.tensor([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]]),
}


def load(file: Path) -> DictConfig:
    """Load the yaml with values for the interpolations that a run fills from the data."""
    counts = {"present": [5, 3, 1], "absent": [4, 6, 8]}
    data = {"task": "multiclass", "class_names": ["a", "b", "c"], "class_counts": counts, "cosine_scale": 30.0}
    config = data | {"loss": OmegaConf.load(file)}
    return OmegaConf.create(OmegaConf.to_container(OmegaConf.create(config), resolve=True)["loss"])  # type: ignore


def tasks_of(loss: torch.nn.Module) -> list[Task]:
    """The tasks whose targets the loss accepts, at least one; build.py refuses cross-entropy for several labels."""
    accepted: list[Task] = []
    for task in TARGETS:
        if task == "multilabel" and isinstance(loss, torch.nn.CrossEntropyLoss):
            continue
        with contextlib.suppress(ValueError, RuntimeError, IndexError):
            loss(torch.zeros(2, 3), TARGETS[task])
            accepted.append(task)
    assert accepted
    return accepted


@pytest.mark.parametrize("file", YAMLS, ids=lambda file: file.stem)
def test_a_better_logit_gives_a_lower_loss(file: Path) -> None:
    loss = instantiate(load(file))
    for task in tasks_of(loss):
        worse = loss(torch.zeros(2, 3), TARGETS[task])
        better = loss(torch.tensor([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]]), TARGETS[task])
        assert better.mean() < worse.mean()


@pytest.mark.parametrize("file", YAMLS, ids=lambda file: file.stem)
def test_the_loss_of_an_epoch_is_a_mean_over_what_is_known(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    loss = instantiate(load(file))
    for task in tasks_of(loss):
        for unknown in UNKNOWN if task == "multilabel" else ("nothing",):
            check_loss(BatchLoss(loss, task), 3, unknown)
    assert not [record for record in caplog.records if record.name.startswith("fovea.training")]


def test_cross_entropy_smooths_labels_when_asked() -> None:
    config = load(next(file for file in YAMLS if file.stem == "cross_entropy"))
    config.label_smoothing = 0.3
    logits, label = torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([0])
    soft = torch.tensor([0.8, 0.1, 0.1])  # 1 - 0.3 + 0.3 / 3, and 0.3 / 3
    assert torch.isclose(instantiate(config)(logits, label), -(soft * logits[0].log_softmax(0)).sum())
