"""The first convolution whitens the training images, the same on one and two ranks, and is not trained."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tasks import Data, K, make_batches, make_task, make_trainer
from torch import Tensor, nn
from two_ranks import on_two_ranks, two_devices

from fovea.callbacks.whitening import Whitening
from fovea.models.patch_whitening import patch_products, whitening_filters

BATCHES = make_batches(4, size=6)


def network(filters: int = 24) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, filters, 2), nn.ReLU(), nn.Flatten(), nn.Linear(9 * filters, K))


def fit(model: Any, callback: Whitening, data: Any = None, **options: Any) -> Tensor:
    trainer = make_trainer(callback, max_epochs=2, **options)
    trainer.fit(model, datamodule=data or Data(BATCHES, BATCHES[:1]), weights_only=True)
    return model.network[0].weight.detach().clone()


def expected(count: int) -> Tensor:
    products, patches = patch_products(torch.cat([batch.images for batch in BATCHES[:count]]), (2, 2))
    return whitening_filters(products / patches, 5e-4).float().view(24, 3, 2, 2)


@pytest.mark.parametrize(("images", "batches"), [(6, 1), (7, 2), (1000, 4)])
def test_the_filters_whiten_the_first_images_and_stay_in_a_training(images: int, batches: int) -> None:
    model = make_task(network=network())
    before = model.network[3].weight.clone()
    weight = fit(model, Whitening("0", images))
    torch.testing.assert_close(weight, expected(batches))
    assert not torch.equal(model.network[3].weight, before)  # the others are trained


def test_a_resumed_training_has_the_filters_of_its_checkpoint(tmp_path: Path) -> None:
    trainer = make_trainer(Whitening("0"), max_epochs=1)
    model = make_task(network=network())
    trainer.fit(model, datamodule=Data(BATCHES[:1], BATCHES[:1]))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    resumed = make_task(network=network())
    fit_again = make_trainer(Whitening("0"), max_epochs=2)
    other = Data(BATCHES[1:2], BATCHES[:1])
    fit_again.fit(resumed, datamodule=other, ckpt_path=tmp_path / "a.ckpt", weights_only=True)
    assert torch.equal(resumed.network[0].weight, model.network[0].weight)


class Share(Data):
    """Each rank's half of the batches."""

    def training_images(self) -> Any:
        assert self.trainer is not None
        yield from (batch.images for batch in self.train[self.trainer.global_rank :: 2])


def test_two_ranks_have_the_filters_of_all_their_images(tmp_path: Path) -> None:
    def work(rank: int) -> Tensor:
        return fit(make_task(network=network()), Whitening("0"), Share(BATCHES, BATCHES[:1]), **two_devices())

    first, second = on_two_ranks(work, tmp_path)
    assert torch.equal(first, second)
    torch.testing.assert_close(first, expected(4))


@pytest.mark.parametrize(
    ("layer", "filters", "message"),
    [
        ("conv1", 24, "layer=conv1: the network has no such convolution; its first is 0"),
        ("2", 24, "layer=2: the network has no such convolution; its first is 0"),
        ("0", 23, "it has 23 filters, but whitening needs two for each of the 12 values"),
    ],
)
def test_a_layer_that_cannot_whiten_is_refused(layer: str, filters: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit(make_task(network=network(filters)), Whitening(layer))


def test_weights_that_whitening_would_replace_are_refused() -> None:
    with pytest.raises(ValueError, match="weights=a.pth loads the filters of 0"):
        fit(make_task(network=network(), config={"weights": "a.pth"}), Whitening("0"))


@pytest.mark.parametrize("epsilon", [0.0, -1.0])
def test_filters_that_are_not_finite_are_refused(epsilon: float) -> None:
    black = [batch._replace(images=torch.zeros_like(batch.images)) for batch in BATCHES[:1]]
    with pytest.raises(ValueError, match=rf"callbacks\.whitening\.epsilon={epsilon}: the filters of 0 would not be"):
        fit(make_task(network=network()), Whitening("0", epsilon=epsilon), Data(black, black))
