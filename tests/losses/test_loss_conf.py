"""Every yaml of conf/loss builds a loss that falls as the right logit rises."""

from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from fovea.data.index import UNKNOWN
from fovea.training.batch_loss import BatchLoss
from fovea.training.loss_check import check_loss

YAMLS = sorted((Path(__file__).resolve().parents[2] / "conf" / "loss").glob("*.yaml"))


def load(file: Path) -> DictConfig:
    """Load the yaml with values for the interpolations that a run fills from the data."""
    counts = {"present": [5, 3, 1], "absent": [4, 6, 8]}
    data = {"task": "multiclass", "class_names": ["a", "b", "c"], "class_counts": counts, "cosine_scale": 30.0}
    config = data | {"loss": OmegaConf.load(file)}
    return OmegaConf.create(OmegaConf.to_container(OmegaConf.create(config), resolve=True)["loss"])  # type: ignore


@pytest.mark.parametrize("file", YAMLS, ids=lambda file: file.stem)
def test_a_better_logit_gives_a_lower_loss(file: Path) -> None:
    loss = instantiate(load(file))
    logits, label = torch.tensor([[0.0, 0.0, 0.0]]), torch.tensor([1])
    try:
        worse = loss(logits, label)
    except (ValueError, RuntimeError, IndexError):  # this loss is for multi-label data
        label = torch.tensor([[0.0, 1.0, 0.0]])
        worse = loss(logits, label)
    better = loss(torch.tensor([[0.0, 1.0, 0.0]]), label)
    assert worse.ndim == 0
    assert better < worse


@pytest.mark.parametrize("file", YAMLS, ids=lambda file: file.stem)
def test_the_loss_of_an_epoch_is_a_mean_over_what_is_known(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    loss = instantiate(load(file))
    check_loss(BatchLoss(loss, "multiclass"), 3, "nothing")
    if not isinstance(loss, torch.nn.CrossEntropyLoss):  # build.py refuses these for several labels
        for unknown in UNKNOWN:
            check_loss(BatchLoss(loss, "multilabel"), 3, unknown)
    assert not [record for record in caplog.records if record.name.startswith("fovea.training")]


def test_cross_entropy_smooths_labels_when_asked() -> None:
    config = load(next(file for file in YAMLS if file.stem == "cross_entropy"))
    config.label_smoothing = 0.3
    logits, label = torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([0])
    soft = torch.tensor([0.8, 0.1, 0.1])  # 1 - 0.3 + 0.3 / 3, and 0.3 / 3
    assert torch.isclose(instantiate(config)(logits, label), -(soft * logits[0].log_softmax(0)).sum())
