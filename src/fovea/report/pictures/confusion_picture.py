"""Draws a confusion matrix as a picture: with names and counts for few classes, as dots for many."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from fovea.report.pictures.drawing import (
    BLACK,
    BLUE,
    GREY,
    LINE,
    RED,
    WHITE,
    class_labels,
    font,
    height,
    mixed,
    shortened,
    upright,
    width,
)

MOST_COUNTS, MOST_NAMES = 30, 100  # classes with counts in the cells; with names
MOST_CELLS = 1000  # rows of a matrix; of more classes, the caller adds up neighbours
CELL, SMALL_CELL = 40, 12  # pixels of a cell with a count; with names alone
SIDE = 1000  # pixels, about, of a matrix without names
MARGIN, LONGEST_NAME = 12, 160
LEAST = 0.2  # strength of the colour of a cell with one image of very many
LEGEND = (0.01, 0.1, 0.5, 1.0)


def draw(matrix: np.ndarray, names: Sequence[str], group: int = 1) -> np.ndarray:
    """Return the picture, (H, W, 3) uint8; the matrix ends MARGIN pixels before the right and the lower edge.

    Args:
        matrix: (C, C) counts, of label i and prediction j.
        names: of the classes.
        group: how many neighbouring classes each row and column stands for; C = ceil(len(names) / group).
    """
    side = cell_side(len(matrix))
    cells = colours(matrix).repeat(side, 0).repeat(side, 1)
    if side < 3:
        cells = _with_dots(cells, matrix, side)
    texts = _texts(names, len(matrix), group)
    picture, corner = _frame(cells, texts, side, group)
    draw = ImageDraw.Draw(picture)
    _write_names(picture, draw, corner, side, texts)
    if len(matrix) <= MOST_COUNTS:
        _write_counts(draw, corner, matrix)
    return np.asarray(picture)


def cell_side(classes: int) -> int:
    """Return the pixels of a cell's side."""
    if classes <= MOST_NAMES:
        return CELL if classes <= MOST_COUNTS else SMALL_CELL
    return max(1, SIDE // classes)


def colours(matrix: np.ndarray) -> np.ndarray:
    """Return the colour of each cell, (C, C, 3) uint8: blue on the diagonal, else red, and white without an image.

    The strength is LEAST + (1 - LEAST) * sqrt(share of the row's images): small shares are visible thanks to the root.
    """
    strength = _strength(matrix)
    cells = mixed(RED, strength)
    diagonal = np.arange(len(matrix))
    cells[diagonal, diagonal] = mixed(BLUE, strength[diagonal, diagonal])
    return cells


def _strength(matrix: np.ndarray) -> np.ndarray:
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    return np.where(matrix > 0, LEAST + (1 - LEAST) * np.sqrt(share), 0.0)


def _with_dots(cells: np.ndarray, matrix: np.ndarray, side: int) -> np.ndarray:
    """Enlarge mistakes to dots of side + 2 pixels, as single pixels are invisible; the strongest dot is on top.

    The diagonal is not covered.
    """
    wrong = _strength(matrix) * ~np.eye(len(matrix), dtype=bool)
    spread = np.pad(wrong.repeat(side, 0).repeat(side, 1), 1)
    spread = np.lib.stride_tricks.sliding_window_view(spread, (3, 3)).max((2, 3))  # as large as cells
    covered = (spread > 0) & ~np.eye(len(matrix), dtype=bool).repeat(side, 0).repeat(side, 1)
    return np.where(covered[..., None], mixed(RED, spread), cells)


def _texts(names: Sequence[str], rows: int, group: int) -> dict[int, str]:
    """Return the text of each row that has one: names, or class numbers at round distances."""
    if rows <= MOST_NAMES:
        return dict(enumerate(class_labels(names)))
    step = next(step for step in (10, 20, 50, 100) if rows / step <= 20)
    return {row: str(row * group) for row in range(0, rows, step)}


def _font_size(rows: int) -> int:
    return 11 if MOST_COUNTS < rows <= MOST_NAMES else 13


def _frame(cells: np.ndarray, texts: dict[int, str], side: int, group: int) -> tuple[Image.Image, tuple[int, int]]:
    """Return the picture with title, legend and cells, and the (x, y) of the cells' corner."""
    size = len(cells)
    of = font(_font_size(size // side))
    longest = min(LONGEST_NAME, max(width(text, of) for text in texts.values()))
    each = f"; each cell is {group} x {group} classes" if group > 1 else ""
    lines = ["rows: label, columns: prediction", f"colour: share of the row's images{each}"]
    text = font(13)
    across = max(longest + 10 + size, *(width(line, text) for line in lines), 4 * 58)
    top = MARGIN + 3 * (height(text) + 4) + 8 + longest + 10
    picture = Image.new("RGB", (across + 2 * MARGIN, top + size + MARGIN), WHITE)
    draw = ImageDraw.Draw(picture)
    for n, line in enumerate(lines):
        draw.text((MARGIN, MARGIN + n * (height(text) + 4)), line, GREY, text)
    _legend(draw, MARGIN + 2 * (height(text) + 4))
    corner = picture.width - MARGIN - size, top
    picture.paste(Image.fromarray(cells), corner)
    draw.rectangle((corner[0] - 1, corner[1] - 1, corner[0] + size, corner[1] + size), outline=LINE)
    return picture, corner


def _legend(draw: ImageDraw.ImageDraw, y: int) -> None:
    """Draw the colours of some shares, of right and of wrong images."""
    for n, share in enumerate(LEGEND):
        strength = np.array(LEAST + (1 - LEAST) * share**0.5)
        for m, colour in enumerate((BLUE, RED)):
            x = MARGIN + 58 * n + 11 * m
            draw.rectangle((x, y + 2, x + 10, y + 12), tuple(mixed(colour, strength).tolist()))
        draw.text((MARGIN + 58 * n + 25, y), f"{share:.0%}", GREY, font(12))


def _write_names(
    picture: Image.Image, draw: ImageDraw.ImageDraw, corner: tuple[int, int], side: int, texts: dict[int, str]
) -> None:
    """Write the texts left of their rows and above their columns."""
    of = font(_font_size((picture.width - MARGIN - corner[0]) // side))
    for row, text in texts.items():
        line, middle = shortened(text, of, LONGEST_NAME), row * side + side // 2
        draw.text((corner[0] - 6, corner[1] + middle), line, BLACK, of, anchor="rm")
        turned = upright(line, of)
        picture.paste(turned, (corner[0] + middle - turned.width // 2, corner[1] - 6 - turned.height))


def _write_counts(draw: ImageDraw.ImageDraw, corner: tuple[int, int], matrix: np.ndarray) -> None:
    dark = _strength(matrix) > 0.6
    for row, column in zip(*matrix.nonzero(), strict=True):
        middle = corner[0] + column * CELL + CELL // 2, corner[1] + row * CELL + CELL // 2
        colour = WHITE if dark[row, column] else BLACK
        draw.text(middle, short_count(int(matrix[row, column])), colour, font(13), anchor="mm")


def short_count(count: int) -> str:
    """Return a count with at most four digits: 9999, 10k, 250k, 1.2M."""
    if count < 10_000:
        return str(count)
    return f"{count // 1000}k" if count < 1_000_000 else f"{count / 1e6:.1f}M"
