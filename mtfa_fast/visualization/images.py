"""Arrays as PNG files with a palette, for pages: no imaging library is needed."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

LEVELS = 128  # more colours than an eye tells apart here, and a fifth smaller than 256
# Matplotlib's magma (its authors put it in the public domain, CC0) at 17 places.
_MAGMA = bytes.fromhex(
    "000004 0a0822 1d1147 36106b 51127c 6a1c81 832681 9c2e7f b73779"
    "d0416f e75263 f56b5c fc8961 fea772 fec488 fde2a3 fcfdbf"
)
_VEIL = (0, 229, 255)  # of the mask: a colour that magma lacks

Palette = NDArray[np.uint8]  # (LEVELS, 3), or (LEVELS, 4) with opacity


def magma() -> Palette:
    """Black over purple to yellow, for the spectrogram: brightness alone tells the order."""
    anchors = np.frombuffer(_MAGMA, np.uint8).reshape(-1, 3)
    places = np.linspace(0, 1, len(anchors))
    levels = np.linspace(0, 1, LEVELS)
    return np.stack([np.interp(levels, places, anchors[:, c]) for c in range(3)], 1).round().astype(np.uint8)


def veil() -> Palette:
    """One colour from transparent to opaque, for the mask above the spectrogram."""
    opacity = np.linspace(0, 255, LEVELS).round().astype(np.uint8)
    return np.concatenate([np.tile(np.array(_VEIL, np.uint8), (LEVELS, 1)), opacity[:, None]], 1)


def indices(values: NDArray[np.floating], low: float, high: float) -> NDArray[np.uint8]:
    """(T, D) -> the picture's palette indices (D, T): time to the right, low bands at the bottom."""
    scaled = (values - low) * ((LEVELS - 1) / (high - low))
    return np.ascontiguousarray(np.clip(np.nan_to_num(scaled), 0, LEVELS - 1).round().astype(np.uint8).T[::-1])


def png(picture: NDArray[np.uint8], palette: Palette) -> bytes:
    """Palette indices (height, width), row 0 at the top -> a PNG file."""
    height, width = picture.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), picture], 1)  # each row starts with its filter, none
    parts = [
        _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        _chunk(b"PLTE", np.ascontiguousarray(palette[:, :3]).tobytes()),
    ]
    if palette.shape[1] == 4:
        parts.append(_chunk(b"tRNS", palette[:, 3].tobytes()))
    parts += [_chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def css_gradient(palette: Palette) -> str:
    """The palette as a CSS background, lowest value on the left."""
    stops = palette[:: (LEVELS - 1) // 8].tolist()
    colours = [f"rgb({r} {g} {b} / {rest[0] / 255 if rest else 1:.2f})" for r, g, b, *rest in stops]
    return f"linear-gradient(to right, {', '.join(colours)})"


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
