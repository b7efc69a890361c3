"""The average that is validated is a plain mean, with torch's BatchNorm update over the training images."""

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from tasks import Data, make_batches, make_task, make_trainer, network
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, update_bn

from fovea.models.freeze import freeze
from fovea.soup.candidates import Candidate
from fovea.soup.soup_validation import Validation

TRAIN, VAL = make_batches(3), make_batches(2, seed=9)


def without_dropout() -> nn.Sequential:
    net = network()
    net[3] = nn.Identity()
    return net


def trained(folder: Path, count: int, same: Sequence[str] = ()) -> list[tuple[Candidate, nn.Module]]:
    """Return candidates and the networks that they hold; the tensors named `same` are those of a new network."""
    made: list[tuple[Candidate, nn.Module]] = []
    for n in range(count):
        net = without_dropout().eval()
        floats = [t for name, t in net.state_dict().items() if t.is_floating_point() and name not in same]
        for tensor in floats:
            tensor += 0.1 * torch.rand(tensor.shape, generator=torch.Generator().manual_seed(n))
        state = {f"network.{name}": tensor for name, tensor in net.state_dict().items()}
        torch.save({"state_dict": state}, folder / f"{n}.ckpt")
        made.append((Candidate(folder, folder / f"{n}.ckpt", math.nan, {"monitor": "val/loss"}), net))
    return made


def mean_of(networks: Sequence[nn.Module], recompute: bool) -> nn.Module:
    average = AveragedModel(networks[0], use_buffers=True)
    for net in networks:
        average.update_parameters(net)
    if recompute:
        update_bn([batch.images for batch in TRAIN], average.module)
    return average.module.eval()


@pytest.mark.parametrize("monitor", ["val/loss", "val/ema_loss"])
@pytest.mark.parametrize(("count", "recompute"), [(3, True), (3, False), (1, True)])
def test_the_figure_is_that_of_the_mean(tmp_path: Path, count: int, recompute: bool, monitor: str) -> None:
    found, networks = zip(*trained(tmp_path, count), strict=True)
    task = make_task(network=without_dropout(), monitor=monitor)
    validation = Validation(task, Data(TRAIN, VAL), make_trainer(), recompute)  # type: ignore[arg-type]
    for _ in range(2):  # a validation leaves nothing behind
        value = validation(found)
    expected = mean_of(networks, recompute and count > 1)
    logits = torch.cat([expected(batch.images) for batch in VAL])
    loss = F.cross_entropy(logits, torch.cat([batch.targets for batch in VAL]))
    assert value == pytest.approx(loss.item(), rel=1e-5)
    assert validation.name == "val/loss"
    weights = validation.weights()
    for name, tensor in expected.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(weights[name], tensor)


@pytest.mark.parametrize(("same", "recompute"), [([], True), (["1.running_mean", "1.running_var"], False)])
def test_statistics_are_recomputed_where_they_differ_whatever_the_best_candidates_run_has_frozen(
    tmp_path: Path, same: list[str], recompute: bool
) -> None:
    """Those of a layer that was frozen in all runs are the same, and are kept."""
    found, networks = zip(*trained(tmp_path, 2, same), strict=True)
    task = make_task(network=without_dropout(), monitor="val/loss")
    freeze(task.network, ["1"])
    validation = Validation(task, Data(TRAIN, VAL), make_trainer(), recompute=True)  # type: ignore[arg-type]
    validation(found)
    expected, weights = mean_of(networks, recompute).state_dict(), validation.weights()
    for name in ("1.running_mean", "1.running_var", "0.weight"):
        torch.testing.assert_close(weights[name], expected[name])
