import re

import numpy as np
import pytest

from fovea.report.charts import HEIGHT, WIDTH, histograms, outline


def bars(path: str) -> np.ndarray:
    """The heights of an outline's bars, as shares of the highest."""
    tops = [float(top) for top in re.findall(r"L[\d.e+]+ ([\d.e+-]+)H", path)]
    return 1 - np.array(tops) / HEIGHT


def test_an_outline_has_a_bar_for_each_value() -> None:
    heights = np.array([3.0, 0, 6, 1.5])
    np.testing.assert_allclose(bars(outline(heights)), heights / 6)
    edges = [float(edge) for edge in re.findall(r"H([\d.]+)", outline(heights))]
    assert edges == [WIDTH * n / 4 for n in (1, 2, 3, 4)]


def test_many_values_are_averaged_and_no_value_or_zeros_give_nothing() -> None:
    heights = np.repeat([4.0, 2.0], 3000)
    np.testing.assert_allclose(bars(outline(heights)), np.repeat([1, 0.5], 250))
    assert outline(np.zeros(3)) == outline(np.empty(0)) == ""


def test_histograms_have_the_same_bins_and_count_as_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    one, two = rng.normal(0, 1, 500), rng.normal(3, 1, 200)
    found = histograms([one, two, np.empty(0)], bins=10)
    low, high = min(one.min(), two.min()), max(one.max(), two.max())
    for series, chart in zip((one, two), found, strict=False):
        counts = [0] * 10
        for value in series:
            counts[min(9, int((value - low) / (high - low) * 10))] += 1
        np.testing.assert_allclose(bars(chart.path), np.array(counts) / max(counts), atol=1e-4)
        assert (chart.low, chart.high) == (low, high)
        assert chart.most == pytest.approx(max(counts) / len(series))
    assert found[2].path == ""


def test_a_few_whole_numbers_have_a_bar_each_and_a_single_one_is_in_the_middle() -> None:
    (chart,) = histograms([np.array([3, 3, 3, 5])])
    np.testing.assert_allclose(bars(chart.path), [1, 0, 1 / 3])
    (single,) = histograms([np.array([7.0, 7.0])])
    assert bars(single.path).nonzero()[0].tolist() == [12]
    assert histograms([np.empty(0)])[0].path == ""
