"""Images of 16 bits a channel, which Pillow reads and does not write."""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.uint16]


def png(values: Values) -> bytes:
    """Two to four channels; rows filtered by Sub."""

    def chunk(name: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + check

    height, width, channels = values.shape
    kind = {2: 4, 3: 2, 4: 6}[channels]
    rows = b""
    for row in values.astype(">u2"):
        data = np.frombuffer(row.tobytes(), np.uint8)
        left = np.concatenate([np.zeros(2 * channels, np.uint8), data[: -2 * channels]])
        rows += b"\1" + (data - left).tobytes()
    head = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def tiff(values: Values, order: str = "<", *, deflate: bool = False, planar: int = 1) -> bytes:
    """Three or four channels."""
    height, width, channels = values.shape
    stored = values if planar == 1 else np.moveaxis(values, 2, 0)
    data = stored.astype(f"{order}u2").tobytes()
    data = zlib.compress(data) if deflate else data
    short, long = 3, 4
    tags = [
        (256, short, width),
        (257, short, height),
        (258, short, None),
        (259, short, 8 if deflate else 1),
        (262, short, 2),
        (273, long, None),
        (277, short, channels),
        (278, short, height),
        (279, long, len(data)),
        (284, short, planar),
        *([(338, short, 2)] if channels == 4 else []),
    ]
    after = 10 + 12 * len(tags) + 4
    out = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, len(tags))
    for tag, kind, value in tags:
        if tag == 258:
            out += struct.pack(f"{order}HHII", tag, kind, channels, after)
        elif tag == 273:
            out += struct.pack(f"{order}HHII", tag, kind, 1, after + 2 * channels)
        elif kind == short:
            out += struct.pack(f"{order}HHIHH", tag, kind, 1, value, 0)
        else:
            out += struct.pack(f"{order}HHII", tag, kind, 1, value)
    return out + struct.pack(f"{order}I{channels}H", 0, *[16] * channels) + data
