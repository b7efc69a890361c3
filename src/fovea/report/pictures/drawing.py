"""Text and colours of pictures that are drawn with Pillow, whose own font has ASCII only."""

import unicodedata
from collections.abc import Sequence
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

WHITE, BLACK, GREY = (255, 255, 255), (27, 31, 36), (91, 100, 112)
PANEL, LINE, BLUE, RED = (243, 244, 246), (213, 217, 223), (31, 111, 235), (198, 40, 40)
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@cache
def font(size: int) -> Font:
    """Return Pillow's own font, which is the same on all machines; `size` is in pixels."""
    return ImageFont.load_default(size)


def ascii_text(text: str) -> str:
    """Return the text without accents; other characters that are not ASCII become "?"."""
    letters = (c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return "".join(c if " " <= c <= "~" else "?" for c in letters)


def class_labels(names: Sequence[str]) -> list[str]:
    """Return class names in ASCII; those that lose a letter begin with the class number."""
    texts = [(name, ascii_text(name)) for name in names]
    return [text if text.count("?") == name.count("?") else f"{k} {text}" for k, (name, text) in enumerate(texts)]


def width(text: str, of: Font) -> int:
    """Return the width of a line of text in pixels."""
    return round(of.getlength(text))


def shortened(text: str, of: Font, most: int) -> str:
    """Return the text, or its beginning and "...", at most `most` pixels wide."""
    if width(text, of) <= most:
        return text
    text = text[:most]  # a letter is wider than a pixel
    while text and width(f"{text}...", of) > most:
        text = text[:-1]
    return f"{text}..."


def wrapped(text: str, of: Font, most: int, lines: int) -> list[str]:
    """Break the text at spaces into at most `lines` lines of at most `most` pixels; the last one is shortened."""
    words, done = text.split(), list[str]()
    while words and len(done) < lines - 1:
        line = words.pop(0)
        while words and width(f"{line} {words[0]}", of) <= most:
            line += f" {words.pop(0)}"
        done.append(shortened(line, of, most))
    return [*done, shortened(" ".join(words), of, most)] if words else done


def upright(text: str, of: Font) -> Image.Image:
    """Return text that reads from bottom to top, as a picture on white."""
    picture = Image.new("RGB", (max(1, width(text, of)), height(of)), WHITE)
    ImageDraw.Draw(picture).text((0, 0), text, BLACK, of)
    return picture.transpose(Image.Transpose.ROTATE_90)


def height(of: Font) -> int:
    """Return the height of a line in pixels, for all letters."""
    return round(of.getbbox("Ag|")[3]) + 2


def mixed(colour: tuple[int, int, int], strength: np.ndarray) -> np.ndarray:
    """Return (..., 3) uint8: white at strength 0, the colour at 1; strength: (...) in [0, 1]."""
    return (255 - strength[..., None] * (255 - np.array(colour))).round().astype(np.uint8)
