"""Parts without a defect: outlines, what a machine made on them on purpose, and the bench they lie on.

Bores, grooves, lettering and neighbours are there to mislead: a bore looks like a hole, a groove like a scratch,
and only place and finish tell them apart. Every class gets them alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from job.demo import drawing
from job.demo.drawing import Field, Point
from job.demo.surface import Surface, colour, material


@dataclass
class Scene:
    """A part on a bench.

    Attributes:
        surface: What the camera sees.
        inside: float32 [S, S], signed distance to the part's outline, below 0 on the part, picture units.
        centre: Where the part's middle lies.
        angle_rad: How the part is turned.
    """

    surface: Surface
    inside: Field
    centre: Point
    angle_rad: float


def _outline(rng: np.random.Generator, u: Field, v: Field) -> Field:
    """Returns the signed distance to one of seven outlines, large enough to carry a defect."""
    size = rng.uniform(0.75, 1.1)
    kind = int(rng.integers(7))
    if kind == 0:
        return drawing.disc(u, v, size)
    if kind == 1:
        return drawing.box(u, v, size, size * rng.uniform(0.55, 0.95), corner=rng.uniform(0.02, 0.2))
    if kind == 2:
        return drawing.box(u, v, size * 1.2, size * 0.55, corner=size * 0.54)
    if kind == 3:
        return drawing.polygon(u, v, size * 0.9, int(rng.integers(5, 9)))
    if kind == 4:
        return drawing.wheel(u, v, size * 0.9, int(rng.integers(10, 24)), size * 0.05)
    if kind == 5:  # a bracket: one corner of the plate is missing
        plate = drawing.box(u, v, size, size, corner=0.04)
        return np.maximum(plate, -drawing.box(u - size * 0.9, v - size * 0.9, size * 0.65, size * 0.65, corner=0.08))
    return np.maximum(drawing.disc(u, v, size * 1.05), -drawing.disc(u, v, size * rng.uniform(0.2, 0.35)))


def _bores(rng: np.random.Generator, scene: Scene, u: Field, v: Field) -> None:
    """Drills countersunk bores in a regular pattern near the rim, showing the bench or a bright screw."""
    count, radius, reach = int(rng.integers(2, 5)), rng.uniform(0.04, 0.09), rng.uniform(0.5, 0.7)
    metal = np.full(3, rng.uniform(0.05, 0.2) if rng.random() < 0.6 else rng.uniform(0.6, 0.9), np.float32)
    start = rng.uniform(0, math.pi)
    for angle in (start + np.arange(count) * 2 * math.pi / count).tolist():
        distance = drawing.disc(u - reach * math.cos(angle), v - reach * math.sin(angle), radius)
        on_part = drawing.coverage(scene.inside + radius)
        scene.surface.height -= 0.03 * drawing.coverage(distance - radius * 0.3, soft=radius) * on_part
        scene.surface.paint(metal, drawing.coverage(distance) * on_part)


def _grooves(rng: np.random.Generator, scene: Scene, u: Field, v: Field) -> None:
    """Mills wide grooves, straight or round, parallel to the outline."""
    middle = v + rng.uniform(-0.5, 0.5) if rng.random() < 0.5 else drawing.disc(u, v, rng.uniform(0.3, 0.7))
    edge = np.asarray(np.abs(middle) - rng.uniform(0.03, 0.06), np.float32)
    scene.surface.height -= rng.uniform(0.01, 0.02) * drawing.coverage(edge, soft=0.03)


def _lettering(rng: np.random.Generator, scene: Scene, u: Field, v: Field) -> None:
    """Prints a row of bars, as a part number or a bar code."""
    x0, y0, height = rng.uniform(-0.5, 0.1), rng.uniform(-0.5, 0.5), rng.uniform(0.03, 0.08)
    ink = np.full(3, 0.1 if rng.random() < 0.6 else 0.95, np.float32)
    bars = np.full(u.shape, np.inf, np.float32)
    for i in range(int(rng.integers(3, 8))):
        width = rng.uniform(0.006, 0.025)
        np.minimum(bars, drawing.box(u - x0 - i * 0.07, v - y0, width, height), out=bars)
    scene.surface.paint(ink, drawing.coverage(bars) * rng.uniform(0.5, 0.9) * drawing.coverage(scene.inside + 0.05))


def _clutter(rng: np.random.Generator, bench: Surface, x: Field, y: Field) -> None:
    """Leaves cables and neighbours at the picture's edges."""
    for _ in range(int(rng.integers(0, 3))):
        side = rng.uniform(0, 2 * math.pi)
        place = (1.05 * math.cos(side), 1.05 * math.sin(side))
        if rng.random() < 0.5:
            line = drawing.wander(rng, place, heading_rad=rng.uniform(0, 2 * math.pi), length=1.6, steps=5, bend=0.4)
            distance = drawing.stroke(x, y, line) - rng.uniform(0.02, 0.05)
        else:
            distance = drawing.disc(x - place[0], y - place[1], rng.uniform(0.1, 0.35))
        bench.paint(colour(rng, saturation=(0, 0.9), value=(0.1, 0.9)), drawing.coverage(distance))
        bench.height += 0.03 * drawing.coverage(distance, soft=0.05)


def scene(rng: np.random.Generator, size_px: int) -> Scene:
    """Returns a flawless part of random outline, material, place and turn on a random bench."""
    x, y = drawing.coordinates(size_px)
    bench = material(rng, x, y)
    bench.albedo *= rng.uniform(0.3, 1.0)
    _clutter(rng, bench, x, y)

    centre, angle_rad = (rng.uniform(-0.2, 0.2), rng.uniform(-0.2, 0.2)), rng.uniform(0, 2 * math.pi)
    u, v = drawing.turned(x, y, centre=centre, angle_rad=angle_rad)
    inside = _outline(rng, u, v).astype(np.float32)
    shadow = np.roll(inside, rng.integers(-6, 7, 2).tolist(), (0, 1))
    bench.tint(np.full(3, 0.45, np.float32), drawing.coverage(shadow, soft=0.12))

    part = material(rng, u, v)
    part.height += 0.06 * drawing.coverage(inside + 0.04, soft=rng.uniform(0.04, 0.12))  # a bevelled rim
    bench.lay(part, drawing.coverage(inside))
    made = Scene(bench, inside, centre, angle_rad)
    for feature, chance in ((_bores, 0.2), (_grooves, 0.15), (_lettering, 0.2)):
        if rng.random() < chance:
            feature(rng, made, u, v)
    return made
