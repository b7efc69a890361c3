"""The views of an image, and the mean of their predictions, against plain loops."""

from functools import partial

import pytest
import torch
from tasks import Data, make_batches, make_task, make_trainer, network
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as F

from fovea.models.test_time_augmentation import AveragedViews, Views, logits_of_mean, views_of

B, K = 5, 3
VIEWS: dict[Views, int] = {"flip": 2, "flip_shift": 6, "five_crop": 5, "flip_five_crop": 10}


def images() -> Tensor:
    return torch.randn(B, 3, 9, 9, generator=torch.Generator().manual_seed(0))


def test_the_ten_views_are_the_corners_the_center_and_their_mirror_images() -> None:
    x = images()
    crops = [x[..., top : top + 6, left : left + 6] for top, left in ((0, 0), (0, 3), (3, 0), (3, 3), (2, 2))]
    expected = [*crops, *(crop.flip(-1) for crop in crops)]
    for view, crop in zip(views_of(x, "flip_five_crop", 6), expected, strict=True):
        assert torch.equal(view, crop)
    assert len(views_of(x, "five_crop", 6)) == 5
    assert all(map(torch.equal, views_of(x, "five_crop", 6), expected[:5]))
    assert all(map(torch.equal, views_of(x, "flip", 9), (x, F.horizontal_flip(x))))


def test_the_shifted_views_are_moved_by_a_pixel_and_repeat_the_row_behind_the_border() -> None:
    x = images()
    down = torch.stack([x[..., row, :] for row in (1, 0, 1, 2, 3, 4, 5, 6, 7)], -2)
    up = torch.stack([x[..., row, :] for row in (1, 2, 3, 4, 5, 6, 7, 8, 7)], -2)
    down_right = torch.stack([down[..., column] for column in (1, 0, 1, 2, 3, 4, 5, 6, 7)], -1)
    up_left = torch.stack([up[..., column] for column in (1, 2, 3, 4, 5, 6, 7, 8, 7)], -1)
    unmirrored = [x, down_right, up_left]
    expected = [*unmirrored, *(view.flip(-1) for view in unmirrored)]
    views = views_of(x, "flip_shift", 9)
    assert len(views) == 6
    assert all(map(torch.equal, views, expected))


@pytest.mark.parametrize("multilabel", [False, True])
def test_the_probabilities_are_the_mean_of_the_views(multilabel: bool) -> None:
    logits = 4 * torch.randn(7, B, K, generator=torch.Generator().manual_seed(1))
    activation = torch.sigmoid if multilabel else partial(torch.softmax, dim=-1)
    got = activation(logits_of_mean(logits, multilabel))
    torch.testing.assert_close(got, sum(activation(view) for view in logits) / 7)
    torch.testing.assert_close(logits_of_mean(logits[:1].expand(4, B, K), multilabel), logits[0])  # the same views
    huge = torch.tensor([[[300.0, -300.0, 0.0]], [[200.0, -400.0, 0.0]]])  # probabilities that round to 0 and 1
    assert logits_of_mean(huge, multilabel).isfinite().all()


def test_averaged_weights_have_the_views_too_and_the_shift_of_classes_comes_after_them() -> None:
    shift, average, batches = torch.tensor([0.5, -1.0, 2.0]), network(), make_batches(2)
    for parameter in average.parameters():
        parameter.data *= 0.5
    task, trainer = make_task(logit_shift=shift, monitor="val/ema_loss"), make_trainer()
    task.also_evaluated = {"ema_": average.eval()}
    task.averaged_views = partial(AveragedViews, kind="flip", size=4, multilabel=False)
    trainer.test(task, datamodule=Data([], batches), verbose=False)
    x, target = torch.cat([one.images for one in batches]), torch.cat([one.targets for one in batches])
    mean = (average(x).softmax(1) + average(x.flip(-1)).softmax(1)) / 2
    torch.testing.assert_close(trainer.callback_metrics["test/ema_loss"], nn.functional.nll_loss(mean.log(), target))
    adjusted = mean * shift.exp()
    tested = torch.cat([probabilities for probabilities, _, _ in task.tested])
    torch.testing.assert_close(tested, adjusted / adjusted.sum(1, keepdim=True))


@pytest.mark.parametrize("kind", VIEWS)
def test_a_test_and_predictions_average_the_views_and_a_training_does_not(kind: Views) -> None:
    """In batches of which the last is smaller."""
    task, trainer = make_task(), make_trainer()
    batches = [*make_batches(2), *make_batches(1, size=2, seed=7)]
    task.averaged_views = partial(AveragedViews, kind=kind, size=4, multilabel=False)
    trainer.test(task, datamodule=Data([], batches), verbose=False)
    tested = torch.cat([probabilities for probabilities, _, _ in task.tested])
    task.eval()
    predicted = torch.cat([task.predict_step(batch, n)[0] for n, batch in enumerate(batches)])
    x = torch.cat([batch.images for batch in batches])
    expected = sum(task.network(view).softmax(1) for view in views_of(x, kind, 4)) / VIEWS[kind]
    assert tested.shape == (12, 3)
    torch.testing.assert_close(tested, expected)
    torch.testing.assert_close(predicted, expected)
    loss = nn.functional.nll_loss(expected.log(), torch.cat([batch.targets for batch in batches]))
    torch.testing.assert_close(trainer.callback_metrics["test/loss"], loss)
    torch.testing.assert_close(task(x).softmax(1), task.network(x).softmax(1))
