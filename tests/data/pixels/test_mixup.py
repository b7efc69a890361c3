"""Mixup and CutMix, compared with timm's, and with Beta's distribution."""

import numpy as np
import pytest
import scipy.stats
import torch
from timm.data import mixup as timms
from torch import Generator, Tensor
from torch.nn import functional as F

from fovea.data.pixels.mixup import Box, Mixup, cutmix, draw_box, draw_share, mixup

K = 3
LABELS = torch.tensor([0, 1, 2, 0, 1])
LAYOUTS = [torch.contiguous_format, torch.channels_last]


def images(layout: torch.memory_format = torch.contiguous_format) -> Tensor:
    return torch.randn(5, 3, 8, 10, generator=seeded(0)).contiguous(memory_format=layout)


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def one_hot() -> Tensor:
    return F.one_hot(LABELS, K).float()


class Timms(timms.Mixup):
    """timm's Mixup with a given share and method."""

    def __init__(self, share: float, cut: bool) -> None:
        super().__init__(num_classes=K)
        self.given = (share, cut)

    def _params_per_batch(self) -> tuple[float, bool]:
        return self.given


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_mixup_is_timms_for_the_same_share(share: float, layout: torch.memory_format) -> None:
    got, target = mixup(images(layout), one_hot(), share)
    expected = images()
    lam = Timms(share, cut=False)._mix_batch(expected)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(target, timms.mixup_target(LABELS, K, lam))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("box", [Box(0, 8, 0, 10), Box(3, 3, 2, 5), Box(2, 7, 4, 5)])
def test_cutmix_is_a_plain_loop(box: Box, layout: torch.memory_format) -> None:
    expected, area = images(), 0
    for y in range(box.top, box.bottom):
        for x in range(box.left, box.right):
            expected[:, :, y, x] = images()[range(4, -1, -1), :, y, x]
            area += 1
    got, target = cutmix(images(layout), one_hot(), box)
    assert torch.equal(got, expected)
    torch.testing.assert_close(target, timms.mixup_target(LABELS, K, 1 - area / 80))


def test_the_boxes_are_distributed_as_timms() -> None:
    generator, share = seeded(1), 0.6
    ours = np.array([draw_box(20, 30, share, generator) for _ in range(3000)])
    np.random.seed(0)
    theirs = np.array(timms.rand_bbox((3, 20, 30), share, count=3000)).T
    for column in range(4):
        assert scipy.stats.ks_2samp(ours[:, column], theirs[:, column]).pvalue > 0.001
    areas = [(b[:, 1] - b[:, 0]) * (b[:, 3] - b[:, 2]) for b in (ours, theirs)]
    assert areas[0].max() == areas[1].max()
    assert scipy.stats.ks_2samp(*areas).pvalue > 0.001


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_the_share_has_the_beta_distribution(alpha: float) -> None:
    generator = seeded(2)
    shares = [draw_share(alpha, generator) for _ in range(2000)]
    assert scipy.stats.kstest(shares, scipy.stats.beta(alpha, alpha).cdf).pvalue > 0.001


def test_a_batch_is_mixed_and_cut_as_often_as_asked() -> None:
    torch.manual_seed(3)
    mixing, counts = Mixup(K, probability=0.6, switch_probability=0.25), {"none": 0, "mixup": 0, "cutmix": 0}
    whole = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 1, 6, 6)
    for _ in range(1000):
        mixed, target = mixing(whole, LABELS[:4])
        assert target.shape == (4, K)
        torch.testing.assert_close(target.sum(1), torch.ones(4))
        unmixed = torch.equal(mixed, whole)
        counts["none" if unmixed else "cutmix" if torch.equal(mixed, mixed.round()) else "mixup"] += 1
    assert counts["none"] == pytest.approx(400, abs=60)  # and a few rectangles without a pixel
    assert counts["cutmix"] == pytest.approx(150, abs=40)


def test_an_unknown_label_makes_the_mixed_one_unknown_unless_nothing_is_mixed() -> None:
    target = torch.tensor([[1.0, torch.nan], [0.0, 1.0], [1.0, 1.0], [1.0, 0.0]])
    _, mixed = mixup(images()[:4], target, 0.25)
    torch.testing.assert_close(
        mixed, torch.tensor([[1, torch.nan], [0.75, 1], [0.25, 1], [1, torch.nan]]), equal_nan=True
    )
    for _, same in (mixup(images()[:4], target, 1.0), cutmix(images()[:4], target, Box(2, 2, 0, 5))):
        assert torch.equal(same.isnan(), target.isnan())


def test_numbers_out_of_range_are_refused() -> None:
    for options in ({"mixup_alpha": 0.0, "cutmix_alpha": 0.0}, {"mixup_alpha": -1.0}, {"probability": 1.1}):
        with pytest.raises(ValueError, match=next(iter(options))):
            Mixup(K, **options)
