"""Drawing with distance and noise fields: the brushes that the demo's pictures are made with.

A field is a float32 array [S, S] with one value a pixel. Places are in picture units: x to the right and y
downwards, -1..1 from edge to edge, so one drawing fits every size in pixels. A shape is its signed distance
(below 0 inside), because a distance gives a soft edge, a rim, a bevel and a shadow alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from PIL import Image

Field = npt.NDArray[np.float32]
Point = tuple[float, float]


def coordinates(size_px: int) -> tuple[Field, Field]:
    """Returns x and y of every pixel's centre, float32 [S, S], -1..1."""
    axis = (np.arange(size_px, dtype=np.float32) + np.float32(0.5)) * np.float32(2 / size_px) - np.float32(1)
    x, y = np.meshgrid(axis, axis)
    return x, y


def turned(x: Field, y: Field, *, centre: Point = (0.0, 0.0), angle_rad: float = 0.0) -> tuple[Field, Field]:
    """Returns the same places as seen from `centre`, with axes turned by `angle_rad`."""
    cos, sin = math.cos(angle_rad), math.sin(angle_rad)
    dx, dy = x - centre[0], y - centre[1]
    return cos * dx + sin * dy, cos * dy - sin * dx


def noise(rng: np.random.Generator, size_px: int, cells: int, *, octaves: int = 1) -> Field:
    """Returns smooth noise, float32 [S, S], mean 0, standard deviation about 1.

    Args:
        rng: Where the randomness comes from.
        size_px: S.
        cells: Features across the picture in the first octave; each further octave has twice as many, half as high.
        octaves: How many are added up, 1 or more.
    """
    total = np.zeros((size_px, size_px), np.float32)
    for octave in range(octaves):
        count = min(cells * 2**octave, size_px)
        lattice = rng.standard_normal((count + 1, count + 1), dtype=np.float32)
        total += np.asarray(Image.fromarray(lattice).resize((size_px, size_px), Image.Resampling.BICUBIC)) * 0.5**octave
    deviation = float(total.std())
    return np.asarray((total - total.mean()) / max(deviation, 1e-6), np.float32)


def streaks(rng: np.random.Generator, along: Field, cells: int) -> Field:
    """Returns noise that varies with one coordinate only: the lines of a brush, float32 [S, S], about -2..2."""
    values = rng.standard_normal(cells)
    places = np.linspace(-2.9, 2.9, cells)  # 2 * sqrt(2) is the farthest that a turned corner can lie
    return np.interp(along, places, values).astype(np.float32)


def coverage(distance: Field, *, soft: float = 0.0) -> Field:
    """Returns how much of every pixel a shape covers, 0..1; the edge is `soft` picture units wide, at least a pixel."""
    width = max(soft, 2 / distance.shape[0])
    return np.asarray(np.clip(0.5 - distance / width, 0, 1), np.float32)


def disc(x: Field, y: Field, radius: float) -> Field:
    """Returns the signed distance to a disc."""
    return np.asarray(np.hypot(x, y) - radius, np.float32)


def box(x: Field, y: Field, half_width: float, half_height: float, *, corner: float = 0.0) -> Field:
    """Returns the signed distance to an upright rectangle with corners rounded by radius `corner`."""
    dx, dy = np.abs(x) - (half_width - corner), np.abs(y) - (half_height - corner)
    outside = np.hypot(np.maximum(dx, 0), np.maximum(dy, 0))
    return np.asarray(outside + np.minimum(np.maximum(dx, dy), 0) - corner, np.float32)


def polygon(x: Field, y: Field, radius: float, sides: int) -> Field:
    """Returns about the signed distance to a regular polygon; `radius` is that of the circle inside."""
    angles = np.arange(sides) * (2 * math.pi / sides)
    distance = np.full(x.shape, -np.inf, np.float32)
    for angle in angles.tolist():
        np.maximum(distance, math.cos(angle) * x + math.sin(angle) * y - radius, out=distance)
    return distance


def wheel(x: Field, y: Field, radius: float, teeth: int, depth: float) -> Field:
    """Returns about the signed distance to a disc whose rim waves in `teeth` teeth of height `depth`."""
    return np.asarray(np.hypot(x, y) - radius - depth * np.sin(teeth * np.arctan2(y, x)), np.float32)


def stroke(x: Field, y: Field, points: Sequence[Point]) -> Field:
    """Returns the distance to a line through two or more points, 0 on the line."""
    nearest = np.full(x.shape, np.inf, np.float32)
    for (ax, ay), (bx, by) in pairwise(points):
        ux, uy = bx - ax, by - ay
        length = max(ux * ux + uy * uy, 1e-9)
        px, py = x - ax, y - ay
        share = np.clip((px * ux + py * uy) / length, 0, 1)
        qx, qy = px - share * ux, py - share * uy
        np.minimum(nearest, qx * qx + qy * qy, out=nearest)
    return np.sqrt(nearest)


def wander(
    rng: np.random.Generator, start: Point, *, heading_rad: float, length: float, steps: int, bend: float
) -> list[Point]:
    """Returns the points of a random walk; every step turns by about `bend` radians around the first heading."""
    points, step = [start], length / steps
    for turn in (rng.standard_normal(steps) * bend).tolist():
        x, y = points[-1]
        points.append((x + step * math.cos(heading_rad + turn), y + step * math.sin(heading_rad + turn)))
    return points
