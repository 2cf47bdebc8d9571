"""Whether two pictures are one: a perceptual hash proposes pairs, their pixels confirm or refuse them.

Near-duplicates are what a picture becomes when it is encoded again, scaled, or brightened a little; another crop
is another picture, as is the same scene with a scratch in it, and two blank walls are two. The hash is 63 bits of
the cosine transform of the picture at 32 x 32 (Zauner 2010, "Implementation and Benchmarking of Perceptual Image
Hash Functions", section 3.2.1). The numbers below were measured on 720 photographs of flowers and their copies at
JPEG quality 30 to 85, at a half and a third of their size and 5 % brighter, against the same photographs with
sensor noise and a scratch or hole drawn in, and against noisy walls.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Picture = NDArray[np.uint8]
"""uint8 [S, S, 3], RGB 0..255: an image squashed to 32, 64 or 128 pixels, whichever its shorter side has."""

_HASHED_PX: Final = 32
_BITS: Final = 63
_MIN_CONTRAST: Final = 2.0
"""Standard deviation of the 32 x 32 grey levels below which a hash would be of noise alone."""

MAX_BITS_APART: Final = 6
"""Scaled copies lie up to 6 bits apart, copies encoded again up to 4; unrelated photographs 8 and more."""
_ROTATIONS: Final = range(0, 64, 4)
_NEIGHBOURS: Final = 16

_PICTURE_PX: Final = (128, 64, 32)
_BLOCK_PX: Final = 8
_MAX_ASPECT: Final = 1.03
_MAX_BRIGHTER: Final = 12.0
_MAX_RESIDUE: Final = 0.1
_MAX_DETAIL: Final = 0.25
_MAX_OUTLIER: Final = 3.5

_COSINES: Final = np.cos(np.pi * np.arange(8)[:, None] * (2 * np.arange(_HASHED_PX) + 1) / (2 * _HASHED_PX))
"""float64 [8, 32]: the first rows of the discrete cosine transform (type II), not normalised."""


def perceptual_hash(image: Image.Image) -> str:
    """Returns 16 hexadecimal digits that alike pictures share but for a few bits; "" for a picture of nothing.

    Args:
        image: RGB, upright.
    """
    small = image.resize((_HASHED_PX, _HASHED_PX), Image.Resampling.BOX, reducing_gap=2.0).convert("L")
    grey = np.asarray(small, np.float64)
    if grey.std() < _MIN_CONTRAST:
        return ""
    waves = (_COSINES @ grey @ _COSINES.T).ravel()[1:]
    return f"{int.from_bytes(np.packbits(waves > np.median(waves)).tobytes(), 'big'):016x}"


def proposals(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Returns the pairs of places [P, 2] whose hashes differ in few bits, the most alike first.

    No loop over all pairs: the hashes are sorted 16 times, each time rotated by four more bits, and each is compared
    with its 16 neighbours; hashes that differ in few bits share a long run of bits, which in one of the rotations
    comes first and sorts them together. Time and memory grow as N log N.
    Source: Charikar (2002), "Similarity Estimation Techniques from Rounding Algorithms", section 3.

    Args:
        hashes: uint64 [N], in an order that depends on the images alone, so that the answer does.
    """
    found = [_neighbours(hashes, rotation) for rotation in _ROTATIONS]
    pairs = np.unique(np.concatenate(found), axis=0)
    return pairs[np.argsort(_bits_apart(hashes, pairs), kind="stable")]


def _neighbours(hashes: NDArray[np.uint64], rotation: int) -> NDArray[np.int64]:
    turned = hashes << np.uint64(rotation) | hashes >> np.uint64(64 - rotation) if rotation else hashes
    order = np.argsort(turned, kind="stable")
    return np.concatenate([np.zeros((0, 2), np.int64), *_shifted(hashes, order)])


def _shifted(hashes: NDArray[np.uint64], order: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    for shift in range(1, min(_NEIGHBOURS, len(order) - 1) + 1):
        pairs = np.stack([order[:-shift], order[shift:]], axis=1)
        yield np.sort(pairs[_bits_apart(hashes, pairs) <= MAX_BITS_APART], axis=1)


def _bits_apart(hashes: NDArray[np.uint64], pairs: NDArray[np.int64]) -> NDArray[np.uint8]:
    counts: NDArray[np.uint8] = np.bitwise_count(hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]])
    return counts


def picture(image: Image.Image) -> Picture:
    """Returns an RGB image as it is compared."""
    px = next((px for px in _PICTURE_PX if px <= min(image.size)), _PICTURE_PX[-1])
    return np.asarray(image.resize((px, px), Image.Resampling.BOX))


def has_same_shape(a: tuple[int, int], b: tuple[int, int]) -> bool:
    """Says whether two (width, height) in pixels have one aspect ratio, up to rounding."""
    slack = _MAX_ASPECT + 1 / min(*a, *b)
    return max(a[0] * b[1], a[1] * b[0]) <= slack * min(a[0] * b[1], a[1] * b[0])


def is_same(one: Picture, other: Picture) -> bool:
    """Says whether two pictures show the same, pixel for pixel, but for coding, scaling and brightness."""
    px = min(len(one), len(other))
    a, b = _scaled_down(one, px), _scaled_down(other, px)
    mean_a, mean_b = a.mean((0, 1)), b.mean((0, 1))
    if np.abs(mean_a - mean_b).max() > _MAX_BRIGHTER:
        return False
    a, b = a - mean_a, b - mean_b
    if _power(a - b) > _MAX_RESIDUE * min(_power(a), _power(b)):
        return False
    # All walls share their shading; what one does not share with another is its grain.
    detail_a, detail_b = _detail(a), _detail(b)
    if _power(detail_a - detail_b) > _MAX_DETAIL * min(_power(detail_a), _power(detail_b)):
        return False
    # Coding and noise differ everywhere alike, a scratch in one place.
    blocks = _tiled(np.abs(a - b), _BLOCK_PX).mean((1, 3, 4))
    return bool(blocks.max() <= _MAX_OUTLIER * (np.median(blocks) + 1))


def _scaled_down(values: Picture, px: int) -> NDArray[np.float32]:
    return np.asarray(_tiled(values, len(values) // px).mean((1, 3), dtype=np.float32))


def _tiled(values: NDArray[Any], tile_px: int) -> NDArray[Any]:
    """Returns [S/T, T, S/T, T, 3] for tiles of T pixels."""
    num = len(values) // tile_px
    return values.reshape(num, tile_px, num, tile_px, 3)


def _detail(values: NDArray[np.float32]) -> NDArray[np.float32]:
    tiles = _tiled(values, _BLOCK_PX)
    return np.asarray(tiles - tiles.mean((1, 3), keepdims=True))


def _power(values: NDArray[np.float32]) -> float:
    return float(np.mean(values * values))
