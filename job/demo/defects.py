"""The five kinds of defect, each drawn into a part's surface.

They differ in what they change: a scratch bares the metal along thin, nearly straight lines; a crack is a dark,
jagged line with branches; a dent changes the relief alone; a stain the colour alone; a hole goes through.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from job.demo import drawing
from job.demo.drawing import Field, Point
from job.demo.parts import Scene


def _crack(rng: np.random.Generator, scene: Scene, x: Field, y: Field, on_part: Field) -> None:
    heading, length = rng.uniform(0, 2 * math.pi), rng.uniform(0.7, 1.3)
    start = (-0.5 * length * math.cos(heading), -0.5 * length * math.sin(heading))
    trunk = drawing.wander(rng, start, heading_rad=heading, length=length, steps=int(rng.integers(6, 10)), bend=0.85)
    distance = drawing.stroke(x, y, trunk)
    for _ in range(int(rng.integers(2, 5))):
        fork = trunk[int(rng.integers(1, len(trunk) - 1))]
        aside = heading + rng.choice([-1, 1]) * rng.uniform(0.5, 1.2)
        branch = drawing.wander(rng, fork, heading_rad=aside, length=length * rng.uniform(0.2, 0.45), steps=4, bend=0.6)
        np.minimum(distance, drawing.stroke(x, y, branch) + 0.004, out=distance)
    mask = drawing.coverage(distance - rng.uniform(0.018, 0.036)) * on_part
    scene.surface.tint(np.full(3, rng.uniform(0.05, 0.25), np.float32), mask)
    scene.surface.height -= rng.uniform(0, 0.012) * mask
    scene.surface.gloss *= 1 - mask


def _dent(rng: np.random.Generator, scene: Scene, x: Field, y: Field, on_part: Field) -> None:
    u, v = drawing.turned(x, y, angle_rad=rng.uniform(0, math.pi))
    radius = rng.uniform(0.28, 0.44)
    reach = np.hypot(u / radius, v / (radius * rng.uniform(0.6, 1.0)))
    reach += 0.12 * drawing.noise(rng, x.shape[0], 5)
    bowl = np.exp(-(np.maximum(reach, 0) ** rng.uniform(2, 4)))
    scene.surface.height -= (rng.uniform(0.5, 0.75) * radius * bowl * on_part).astype(np.float32)


def _hole(rng: np.random.Generator, scene: Scene, x: Field, y: Field, on_part: Field) -> None:
    u, v = drawing.turned(x, y, angle_rad=rng.uniform(0, math.pi))
    radius = rng.uniform(0.14, 0.24)
    ragged = rng.uniform(0.02, 0.12) * radius * drawing.noise(rng, x.shape[0], 16)
    distance = np.hypot(u, v * rng.uniform(1.0, 1.35)) - radius + ragged
    depth = np.asarray(rng.uniform(0.01, 0.1, 3), np.float32)
    burr = np.exp(-((distance / (0.25 * radius)) ** 2)) * on_part
    scene.surface.height += (rng.uniform(-0.01, 0.02) * burr).astype(np.float32)
    mask = drawing.coverage(distance) * on_part
    scene.surface.paint(depth, mask)
    scene.surface.gloss *= 1 - mask


def _scratch(rng: np.random.Generator, scene: Scene, x: Field, y: Field, on_part: Field) -> None:
    heading, tone = rng.uniform(0, 2 * math.pi), rng.uniform(0.9, 1.2)
    bared = np.asarray([tone, tone, tone * rng.uniform(0.9, 1.0)], np.float32)
    for _ in range(int(rng.integers(3, 8))):
        turn, length = heading + rng.normal(0, 0.12), rng.uniform(0.8, 1.5)
        aside = rng.normal(0, 0.1)
        start = (
            -0.5 * length * math.cos(turn) - aside * math.sin(turn),
            -0.5 * length * math.sin(turn) + aside * math.cos(turn),
        )
        line = drawing.wander(rng, start, heading_rad=turn, length=length, steps=3, bend=0.06)
        mask = drawing.coverage(drawing.stroke(x, y, line) - rng.uniform(0.012, 0.022)) * on_part
        scene.surface.paint(bared, mask * rng.uniform(0.65, 1.0))
        scene.surface.height -= rng.uniform(0.002, 0.01) * mask


def _stain(rng: np.random.Generator, scene: Scene, x: Field, y: Field, on_part: Field) -> None:
    inks = ((0.55, 0.35, 0.15), (0.35, 0.3, 0.2), (0.4, 0.45, 0.5), (0.6, 0.25, 0.12), (0.3, 0.4, 0.3))
    ink = np.asarray(inks[int(rng.integers(len(inks)))], np.float32) * np.float32(rng.uniform(1.0, 1.3))
    radius = rng.uniform(0.32, 0.52)
    outline = 0.4 * radius * drawing.noise(rng, x.shape[0], int(rng.integers(5, 9)), octaves=3)
    distance = np.hypot(x, y * rng.uniform(0.8, 1.4)) - radius + outline
    mask = drawing.coverage(distance, soft=rng.uniform(0.02, 0.1)) * on_part
    rim = np.exp(-((distance / 0.03) ** 2)) * rng.uniform(0, 0.4) * on_part  # where a drop dries last
    scene.surface.tint(ink, np.clip(mask * rng.uniform(0.7, 1.0) + rim, 0, 1).astype(np.float32))
    scene.surface.gloss *= 1 - 0.6 * mask


DEFECTS: Mapping[str, Callable[[np.random.Generator, Scene, Field, Field, Field], None]] = {
    "crack": _crack,
    "dent": _dent,
    "hole": _hole,
    "scratch": _scratch,
    "stain": _stain,
}


def inflict(name: str, scene: Scene, rng: np.random.Generator) -> Point:
    """Draws a defect of one kind somewhere on the part and returns its place, picture units.

    Args:
        name: A key of `DEFECTS`.
        scene: The part; its surface is changed in place.
        rng: Where the randomness comes from.
    """
    x, y = drawing.coordinates(scene.inside.shape[0])
    # Well inside the outline and the picture, so that no defect is lost beyond an edge.
    depth = np.maximum(scene.inside, np.maximum(np.abs(x), np.abs(y)) - 0.9)
    rows, columns = np.nonzero(depth < min(-0.15, float(depth.min()) * 0.5))
    pick = int(rng.integers(len(rows)))
    place = (float(x[rows[pick], columns[pick]]), float(y[rows[pick], columns[pick]]))
    on_part = drawing.coverage(scene.inside + 0.01)
    DEFECTS[name](rng, scene, x - place[0], y - place[1], on_part)
    return place
