"""What decode.py has to know before it decodes, read from the first bytes in microseconds.

Sources: ITU T.81 annex B (JPEG), https://www.w3.org/TR/png-3/ and
https://developers.google.com/speed/webp/docs/riff_container.
"""

import struct
from typing import NamedTuple


class Header(NamedTuple):
    """`pixels` is width times height; `alpha`: some pixel may be transparent."""

    pixels: int
    alpha: bool


def read_header(data: bytes) -> Header | None:
    """That of a JPEG, PNG or WebP; None for other files, damaged ones, and WebP in motion or with EXIF."""
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


def _jpeg(data: bytes) -> Header | None:
    place = 2
    while data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # a fill byte
            place += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame
            height, width = struct.unpack_from(">HH", data, place + 5)
            return Header(height * width, alpha=False)
        else:
            place += 2 + (data[place + 2] << 8 | data[place + 3])
    return None


def _png(data: bytes) -> Header:
    width, height, _, colour = struct.unpack_from(">IIBB", data, 16)
    place, chunk = 8, b""
    while chunk not in (b"tRNS", b"IDAT"):  # transparent palette entries and key colours precede the pixels
        length, chunk = struct.unpack_from(">I4s", data, place)
        place += 12 + length
    return Header(width * height, alpha=colour in (4, 6) or chunk == b"tRNS")


def _webp(data: bytes) -> Header | None:
    form = data[12:16]
    if form == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return Header((width & 0x3FFF) * (height & 0x3FFF), alpha=False)
    if form == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return Header(((bits & 0x3FFF) + 1) * ((bits >> 14 & 0x3FFF) + 1), alpha=bool(bits >> 28 & 1))
    if form != b"VP8X" or data[20] & 0x0A:  # 0x02: animated, 0x08: EXIF
        return None
    width, height = (struct.unpack_from("<I", data, place)[0] >> 8 for place in (23, 26))  # 3 bytes each, less 1
    return Header((width + 1) * (height + 1), alpha=bool(data[20] & 0x10))
