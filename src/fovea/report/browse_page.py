"""Makes the page that shows a dataset: images of every split, augmented images, image sizes and class balance."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from torch import Tensor

from fovea.report.charts import HEIGHT, WIDTH, histograms, outline
from fovea.report.page import render
from fovea.report.thumbnails import data_uris

MOST_BYTES = 4_000_000  # of all images on the page
SMALL = 64  # pixels; smaller images are enlarged without smoothing
ALL_ROWS = 100  # classes; of more, the table shows the first and last ones
ENDS = 15  # classes at either end
MOST_ROWS = 2000  # classes in the complete table
QUANTILES = (0, 0.05, 0.5, 0.95, 1)


class Picture(NamedTuple):
    """An image to show: (3, H, W) uint8 pixels, of the size in which they are shown."""

    path: str
    label: str
    pixels: Tensor


class SplitView(NamedTuple):
    """What the page shows of a split.

    Attributes:
        name: such as "train".
        images: their number.
        pictures: some of them.
        unreadable: the paths of those chosen that could not be read.
        sizes: (n, 2) heights and widths of some images.
        counts: K, the number of images in which each class is present.
    """

    name: str
    images: int
    pictures: Sequence[Picture]
    unreadable: Sequence[str]
    sizes: Tensor
    counts: Sequence[int]


class AugmentedView(NamedTuple):
    """An image, as it is cropped in an evaluation, and as a training gets it in its first epochs: (3, S, S) uint8."""

    picture: Picture
    evaluated: Tensor
    trained: Sequence[Tensor]


def browse_page(
    title: str,
    task: Literal["multiclass", "multilabel"],
    facts: Sequence[tuple[str, str]],
    class_names: Sequence[str],
    splits: Sequence[SplitView],
    augmented: Sequence[AugmentedView],
) -> str:
    """Return the page. Its images have at most MOST_BYTES together, unless they exceed that at the lowest quality.

    Args:
        title: the heading.
        task: whether an image has one label or several.
        facts: names and values, shown as a table.
        class_names: K names.
        splits: each with the counts of K classes.
        augmented: images of the training split.
    """
    groups = [[picture.pixels for picture in split.pictures] for split in splits]
    groups += [[view.picture.pixels, view.evaluated, *view.trained] for view in augmented]
    uris = iter(data_uris([pixels for group in groups for pixels in group], MOST_BYTES))
    shown = [[{"uri": next(uris), "small": max(pixels.shape) < SMALL} for pixels in group] for group in groups]
    return render(
        "browse.html",
        title=title,
        task=task,
        facts=facts,
        splits=[(split, list(zip(split.pictures, images))) for split, images in zip(splits, shown)],
        augmented=list(zip(augmented, shown[len(splits) :], strict=True)),
        sizes=_size_charts(splits),
        classes=_class_rows(class_names, splits),
        balance=_balance_charts(splits),
        limits={"all": ALL_ROWS, "ends": ENDS, "most": MOST_ROWS},
        chart_width=WIDTH,
        chart_height=HEIGHT,
    )


def _size_charts(splits: Sequence[SplitView]) -> list[dict[str, Any]]:
    """Return a row of histograms for each of height, width and aspect ratio."""
    sizes = [split.sizes.numpy() for split in splits]  # (n, 2) each
    columns = {
        "width in pixels": [one[:, 1] for one in sizes],
        "height in pixels": [one[:, 0] for one in sizes],
        "width / height": [one[:, 1] / one[:, 0] for one in sizes],
    }
    return [
        {
            "name": name,
            "charts": [
                (split, chart, np.quantile(values, QUANTILES).tolist() if len(values) else [])
                for split, chart, values in zip(splits, histograms(series), series, strict=True)
            ],
        }
        for name, series in columns.items()
    ]


def _class_rows(class_names: Sequence[str], splits: Sequence[SplitView]) -> list[dict[str, Any]]:
    """Return a row for each class, the most frequent in the first split first.

    A count comes with its share of the split's images, in percent, and with the length of its bar, in percent of the
    longest bar of all splits.
    """
    counts = np.array([split.counts for split in splits], float)  # (S, K)
    shares = counts / np.array([[max(1, split.images)] for split in splits])
    longest = shares.max(initial=0) or 1
    return [
        {
            "name": class_names[k],
            "cells": [
                (int(count), 100 * share, f"{100 * share / longest:.4g}%")
                for count, share in zip(counts[:, k], shares[:, k], strict=True)
            ],
        }
        for k in _order(splits)
    ]


def _balance_charts(splits: Sequence[SplitView]) -> list[tuple[SplitView, str, int]]:
    """Return an outline of each split's counts, in the order of the table, and the highest count."""
    order = _order(splits)
    return [(s, outline(np.array(s.counts, float)[order]), max(s.counts, default=0)) for s in splits]


def _order(splits: Sequence[SplitView]) -> list[int]:
    return np.argsort(-np.array(splits[0].counts), kind="stable").tolist() if splits else []
