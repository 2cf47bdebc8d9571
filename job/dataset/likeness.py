"""Whether two pictures are one: a perceptual hash proposes pairs, their pixels confirm or refuse them.

Near-duplicates are what a picture becomes when it is encoded again, scaled, or brightened a little; another crop
is another picture, as is the same scene with a scratch in it, and two blank walls are two. The hash is 63 bits of
the cosine transform of the picture at 32 x 32 (Zauner 2010, "Implementation and Benchmarking of Perceptual Image
Hash Functions", section 3.2.1), and 192 bits of its next waves, which spare pairs that are alike from afar alone a look
at their pixels. The numbers below were measured on 720 photographs of flowers and their copies at JPEG quality 30 to
85, at a half and a third of their size and 5 % brighter, against the same photographs with sensor noise and a scratch
or hole drawn in, and against noisy walls.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Picture = NDArray[np.uint8]
"""uint8 [S, S, 3], RGB 0..255: an image squashed to 32, 64 or 128 pixels, whichever its shorter side has."""

_HASHED_PX: Final = 32
_COARSE_DIGITS: Final = 16
_MIN_CONTRAST: Final = 2.0
"""Standard deviation of the 32 x 32 grey levels below which a hash would be of noise alone."""

MAX_BITS_APART: Final = 6
"""Scaled copies lie up to 6 bits apart, copies encoded again up to 4; unrelated photographs 8 and more."""
_MAX_FINE_BITS_APART: Final = 36
"""Copies lie up to 32 apart (480 photographs; JPEG quality 10 and 30, 300 to 48 pixels, 5 % brighter, shrunk while they
were decoded), smaller ones up to 42 (28 pixels); unrelated photographs 74 and more."""
_ROTATIONS: Final = range(0, 64, 4)
_NEIGHBOURS: Final = 16

PICTURE_PX: Final = (128, 64, 32)
_BLOCK_PX: Final = 8
_MAX_ASPECT: Final = 1.03
_MAX_BRIGHTER: Final = 12.0
_MAX_RESIDUE: Final = 0.1
_MAX_DETAIL: Final = 0.25
_MAX_OUTLIER: Final = 3.5

_COSINES: Final = np.cos(np.pi * np.arange(16)[:, None] * (2 * np.arange(_HASHED_PX) + 1) / (2 * _HASHED_PX))
"""float64 [16, 32]: the first rows of the discrete cosine transform (type II), not normalised."""
_IS_FINE: Final = np.maximum.outer(np.arange(16), np.arange(16)).ravel() >= 8
_COARSE: Final = np.flatnonzero(~_IS_FINE)[1:]
_FINE: Final = np.flatnonzero(_IS_FINE)
"""int64 [63] and [192]: the places among these waves [16 * 16] of the first 8 x 8 but the very first, and of the rest.
"""


def miniature(image: Image.Image) -> bytes:
    """Returns what of an RGB image, upright, is hashed: the grey levels of its 32 x 32 pixels."""
    # Grey first: there is one channel to scale, not three.
    return image.convert("L").resize((_HASHED_PX, _HASHED_PX), Image.Resampling.BOX, reducing_gap=2.0).tobytes()


def perceptual_hashes(miniatures: Sequence[bytes]) -> list[str]:
    """Returns for each 16 + 48 hexadecimal digits that alike pictures share but for a few bits; "" for one of nothing.

    Of many at once, as numpy's twenty calls take longer than what they do for one.
    """
    if not miniatures:
        return []
    grey = np.frombuffer(b"".join(miniatures), np.uint8).astype(np.float64).reshape(-1, _HASHED_PX, _HASHED_PX)
    waves = (_COSINES @ grey @ _COSINES.T).reshape(len(grey), -1)
    # The first wave is the sum of all grey levels.
    variance = np.square(grey).mean((1, 2)) - (waves[:, 0] / _HASHED_PX**2) ** 2
    digits = np.concatenate([_signs(waves[:, _COARSE]), _signs(waves[:, _FINE])], axis=1)
    is_picture = (variance >= _MIN_CONTRAST**2).tolist()
    return [row.tobytes().hex() if is_one else "" for row, is_one in zip(digits, is_picture, strict=True)]


def _signs(waves: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Returns for each row [N, W] a bit a wave, packed [N, W / 8]: whether it is above the row's middle one."""
    # Not numpy.median, which imports numpy.ma: a tenth of a second in every worker process.
    middle = np.sort(waves)[:, waves.shape[1] // 2, None]
    return np.packbits(waves > middle, axis=1)


def coarse(perceptual_hash: str) -> int:
    """Returns the part of a hash that `proposals` compares."""
    return int(perceptual_hash[:_COARSE_DIGITS], 16)


def is_finely_alike(one: str, other: str) -> bool:
    """Says whether two hashes agree in their fine part, too, so that a look at the pixels may be worth it."""
    fine = (int(each[_COARSE_DIGITS:] or "0", 16) for each in (one, other))
    return (next(fine) ^ next(fine)).bit_count() <= _MAX_FINE_BITS_APART


def proposals(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Returns the pairs of places [P, 2] whose hashes differ in few bits, the most alike first.

    No loop over all pairs: the hashes are sorted 16 times, each time rotated by four more bits, and each is compared
    with its 16 neighbours; hashes that differ in few bits share a long run of bits, which in one of the rotations
    comes first and sorts them together. Time and memory grow as N log N.
    Source: Charikar (2002), "Similarity Estimation Techniques from Rounding Algorithms", section 3.

    Args:
        hashes: uint64 [N], of `coarse`, in an order that depends on the images alone, so that the answer does.
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
    px = next((px for px in PICTURE_PX if px <= min(image.size)), PICTURE_PX[-1])
    return np.asarray(image.resize((px, px), Image.Resampling.BOX))


def has_same_shape(a: tuple[int, int], b: tuple[int, int]) -> bool:
    """Says whether two (width, height) in pixels have one aspect ratio, up to rounding."""
    slack = _MAX_ASPECT + 1 / min(*a, *b)
    return max(a[0] * b[1], a[1] * b[0]) <= slack * min(a[0] * b[1], a[1] * b[0])


def is_same(one: Picture, other: Picture) -> bool:
    """Says whether two pictures show the same, pixel for pixel, but for coding, scaling and brightness."""
    px = min(len(one), len(other))
    a, b = _scaled_down(one, px), _scaled_down(other, px)
    mean_a, mean_b = _mean(a), _mean(b)
    if np.abs(mean_a - mean_b).max() > _MAX_BRIGHTER:
        return False
    a, b = a - mean_a, b - mean_b
    difference = a - b
    power_a, power_b, power = _power(a), _power(b), _power(difference)
    if power > _MAX_RESIDUE * min(power_a, power_b):
        return False
    # All walls share their shading; what one does not share with another is its grain: what is left of a picture
    # without the means of its blocks. Its power is what they leave of the picture's.
    means_a, means_b = _tile_means(a, _BLOCK_PX), _tile_means(b, _BLOCK_PX)
    detail_a, detail_b = power_a - _power(means_a), power_b - _power(means_b)
    if power - _power(means_a - means_b) > _MAX_DETAIL * min(detail_a, detail_b):
        return False
    # Coding and noise differ everywhere alike, a scratch in one place.
    blocks = _tile_means(np.abs(difference), _BLOCK_PX).mean(-1)
    return bool(blocks.max() <= _MAX_OUTLIER * (np.median(blocks) + 1))


def _scaled_down(values: Picture, px: int) -> NDArray[np.float32]:
    return _tile_means(values.astype(np.float32), len(values) // px)


def _tile_means(values: NDArray[np.float32], tile_px: int) -> NDArray[np.float32]:
    """Returns the mean of each tile of T x T pixels: float32 [S, S, 3] → [S/T, S/T, 3]."""
    if tile_px == 1:
        return values
    num = len(values) // tile_px
    # Rows first: numpy adds up long runs ten times as fast as threes.
    rows = values.reshape(num, tile_px, -1).sum(1)
    return np.asarray(rows.reshape(num, num, tile_px, 3).sum(2) / tile_px**2)


def _mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
    pixels = values.reshape(-1, 3)
    return np.full(len(pixels), 1 / len(pixels), np.float32) @ pixels


def _power(values: NDArray[np.float32]) -> float:
    return float(np.vdot(values, values)) / values.size
