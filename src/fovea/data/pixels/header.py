"""Reads an image file's size, transparency and EXIF orientation from its header, in microseconds.

Sources: ITU T.81 annex B (JPEG), https://www.w3.org/TR/png-3/ and
https://developers.google.com/speed/webp/docs/riff_container.
"""

import struct
from typing import NamedTuple

from PIL import Image

EXIF, ORIENTATION = b"Exif\x00\x00", 0x0112


class Frame(NamedTuple):
    """The frame header of a JPEG; `height` and `width` are before applying `orientation` (EXIF's 1 to 8)."""

    height: int
    width: int
    components: int
    sequential: bool  # coded in one pass from top to bottom, unlike a progressive file
    unit: int  # rows in one minimum coded unit (MCU)
    height_at: int  # offset in the file of the two bytes that contain `height`
    orientation: int


class Header(NamedTuple):
    """`pixels` is width times height; `alpha` is whether pixels may be transparent; `frame` is set for a JPEG."""

    pixels: int
    alpha: bool
    frame: Frame | None = None


def read_header(data: bytes | memoryview) -> Header | None:
    """Read the header of a JPEG, PNG or WebP; None for other and damaged files and for WebP with animation or EXIF."""
    try:
        if data[:2] == b"\xff\xd8":
            return _jpeg(data)
        if data[:8] == b"\x89PNG\r\n\x1a\n":
            return _png(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data)
    except (struct.error, IndexError):  # the file ends inside its header
        pass
    return None


def _jpeg(data: bytes | memoryview) -> Header | None:
    place, orientation = 2, 1
    while data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # a fill byte
            place += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD9:  # no length follows, so decoders may find another size
            return None
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame
            height, width, components = struct.unpack_from(">HHB", data, place + 5)
            unit = 8 * max((data[place + 11 + 3 * k] & 15 for k in range(components)), default=0)
            if not height * width * unit:
                return None
            frame = Frame(height, width, components, marker in (0xC0, 0xC1), unit, place + 5, orientation)
            return Header(height * width, alpha=False, frame=frame)
        else:
            length = data[place + 2] << 8 | data[place + 3]
            if marker == 0xE1 and data[place + 4 : place + 10] == EXIF:
                orientation = _orientation(bytes(data[place + 4 : place + 2 + length]))
            place += 2 + length
    return None


def _orientation(segment: bytes) -> int:
    exif = Image.Exif()
    try:
        exif.load(segment)
        orientation = exif.get(ORIENTATION, 1)
    except Exception:  # PIL raises many types on damaged EXIF, and then ignores it itself
        return 1
    return orientation if orientation in range(1, 9) else 1


def _png(data: bytes | memoryview) -> Header:
    width, height, _, colour = struct.unpack_from(">IIBB", data, 16)
    place, chunk = 8, b""
    while chunk not in (b"tRNS", b"IDAT"):  # a transparent color or palette (tRNS) is before the pixels (IDAT)
        length, chunk = struct.unpack_from(">I4s", data, place)
        place += 12 + length
    return Header(width * height, alpha=colour in (4, 6) or chunk == b"tRNS")


def _webp(data: bytes | memoryview) -> Header | None:
    form = data[12:16]
    if form == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return Header((width & 0x3FFF) * (height & 0x3FFF), alpha=False)
    if form == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return Header(((bits & 0x3FFF) + 1) * ((bits >> 14 & 0x3FFF) + 1), alpha=bool(bits >> 28 & 1))
    if form != b"VP8X" or data[20] & 0x0A:  # 0x02: animated, 0x08: EXIF
        return None
    width, height = (struct.unpack_from("<I", data, place)[0] >> 8 for place in (23, 26))  # 3 bytes each, minus 1
    return Header((width + 1) * (height + 1), alpha=bool(data[20] & 0x10))
