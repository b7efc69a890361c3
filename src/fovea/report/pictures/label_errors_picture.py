"""Draws which labels are wrong, for several labels an image: the missed and the false ones of each class, as bars."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from fovea.report.pictures.drawing import BLACK, BLUE, GREY, RED, WHITE, class_labels, font, shortened, width
from fovea.report.statistics.per_class import Counts

MOST = 40  # classes
ROW, HEADER, MARGIN = 22, 52, 12  # pixels
NAME, LABELLED, BAR, NUMBER = 170, 70, 220, 52  # widths in pixels; of the longest bar
BAR_TOP, BAR_BOTTOM = 4, 17  # within a row


def draw(counts: Counts, names: Sequence[str]) -> np.ndarray:
    """Return the picture, (H, W, 3) uint8: a row for each class, of more than MOST for those with most wrong labels.

    The length of a bar is the count's share of the largest count of all bars.
    """
    missed, false, found = (counts.fn.numpy(), counts.fp.numpy(), counts.tp.numpy())  # (K,)
    rows, of = shown(missed + false), font(13)
    texts = class_labels(names)
    name = min(NAME, max(width(text, of) for text in texts))
    left = MARGIN + name + LABELLED + 12  # of the bars of missed labels
    size = left + 2 * (BAR + NUMBER) + MARGIN, HEADER + ROW * len(rows) + MARGIN
    picture = Image.new("RGB", size, WHITE)
    draw = ImageDraw.Draw(picture)
    _write_header(draw, left, len(rows), len(texts))
    most = max(1, missed.max(), false.max())
    for y, k in zip(range(HEADER, HEADER + ROW * len(rows), ROW), rows, strict=True):
        draw.text((MARGIN + name, y + ROW // 2), shortened(texts[k], of, name), BLACK, of, anchor="rm")
        draw.text((left - 12, y + ROW // 2), f"{missed[k] + found[k]:,}", BLACK, of, anchor="rm")
        _draw_bar(draw, left, y, int(missed[k]), most, RED)
        _draw_bar(draw, left + BAR + NUMBER, y, int(false[k]), most, BLUE)
    return np.asarray(picture)


def shown(wrong: np.ndarray) -> list[int]:
    """Return the classes that are shown: all in their order, or the MOST with most wrong labels, these first."""
    if len(wrong) <= MOST:
        return list(range(len(wrong)))
    order: list[int] = np.argsort(-wrong, kind="stable")[:MOST].tolist()
    return order


def bar_pixels(count: int, most: int) -> int:
    """Return the length of a bar; every count above 0 is visible."""
    return max(2, round(BAR * count / most)) if count else 0


def _draw_bar(draw: ImageDraw.ImageDraw, x: int, y: int, count: int, most: int, colour: tuple[int, int, int]) -> None:
    length = bar_pixels(count, most)
    if length:
        draw.rectangle((x, y + BAR_TOP, x + length - 1, y + BAR_BOTTOM), colour)
    draw.text((x + length + 5, y + ROW // 2), f"{count:,}", BLACK, font(13), anchor="lm")


def _write_header(draw: ImageDraw.ImageDraw, left: int, rows: int, classes: int) -> None:
    of = font(13)
    which = "" if rows == classes else f"the {rows} of {classes:,} classes with most wrong labels; "
    draw.text((MARGIN, MARGIN), f"{which}bars: images, predicted above 0.5", GREY, of)
    y = HEADER - 10
    draw.text((left - 12, y), "labelled", GREY, of, anchor="rm")
    draw.text((left, y), "label missed", RED, of, anchor="lm")
    draw.text((left + BAR + NUMBER, y), "falsely predicted", BLUE, of, anchor="lm")
