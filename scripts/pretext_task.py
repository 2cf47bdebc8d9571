"""The task that the demo's backbone is pre-trained on: which mark, applied in which way, on some material.

24 classes: eight marks (ring, cross, triangle, wave, spiral, dots, checker, star), each as a print in ink, a relief,
or a sprayed wash, on a flawless part or on loose sheets of material. It shares the demo's workshop (parts, materials,
light, camera) as ImageNet shares the world with whatever one fine-tunes on; none of the demo's defects, none
of its classes and none of its pictures is in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np
import numpy.typing as npt

from job.demo import drawing
from job.demo.drawing import Field
from job.demo.parts import scene
from job.demo.surface import Surface, colour, material, photograph

_CHUNK = 64  # pictures made by one call of a worker process


def _spiral(u: Field, v: Field, thick: float) -> npt.NDArray[np.floating[Any]]:
    turns = np.arctan2(v, u) / (2 * math.pi) + np.hypot(u, v) * 2.2
    ridge = np.abs((turns % 1) - 0.5) / 2.2 - thick * 0.6
    return np.asarray(np.maximum(ridge, np.hypot(u, v) - 1))


def _dots(u: Field, v: Field, thick: float) -> npt.NDArray[np.floating[Any]]:
    spots = np.hypot((u * 2 + 0.5) % 1 - 0.5, (v * 2 + 0.5) % 1 - 0.5) / 2 - 0.1 - thick * 0.3
    return np.asarray(np.maximum(spots, np.hypot(u, v) - 1.1))


def _checker(u: Field, v: Field, thick: float) -> npt.NDArray[np.floating[Any]]:
    squares = np.sin(u * 5 * (1 - thick)) * np.sin(v * 5 * (1 - thick)) / 5
    return np.asarray(np.maximum(squares, drawing.box(u, v, 0.9, 0.9)))


# Signed distance in the mark's own axes, where it fills -1..1; `thick` is half the width of its lines, 0.04..0.15.
MARKS: Mapping[str, Callable[[Field, Field, float], npt.NDArray[np.floating[Any]]]] = {
    "ring": lambda u, v, thick: np.abs(np.hypot(u, v) - 0.8) - thick,
    "cross": lambda u, v, thick: np.minimum(drawing.box(u, v, 1, thick), drawing.box(u, v, thick, 1)),
    "triangle": lambda u, v, thick: drawing.polygon(u, v, 0.45 + thick, 3),
    "wave": lambda u, v, thick: np.maximum(np.abs(v - 0.3 * np.sin(5.5 * u)) * 0.6 - thick, np.abs(u) - 1.2),
    "spiral": _spiral,
    "dots": _dots,
    "checker": _checker,
    "star": lambda u, v, thick: np.hypot(u, v) - 0.6 - (0.2 + thick) * np.cos(5 * np.arctan2(v, u)),
}


def _ink(rng: np.random.Generator, surface: Surface, distance: Field) -> None:
    ink = colour(rng, saturation=(0, 0.6), value=(0.05, 0.95))
    mask = drawing.coverage(distance)
    if np.abs(ink - surface.albedo.mean(axis=(0, 1))).max() < 0.15:  # would not be seen
        ink = 1 - ink
    surface.paint(ink, mask * rng.uniform(0.5, 1.0))


def _relief(rng: np.random.Generator, surface: Surface, distance: Field) -> None:
    height = rng.choice([-1, 1]) * rng.uniform(0.03, 0.08)
    surface.height += (height * drawing.coverage(distance, soft=rng.uniform(0.03, 0.15))).astype(np.float32)


def _wash(rng: np.random.Generator, surface: Surface, distance: Field) -> None:
    ragged = distance + rng.uniform(0.0, 0.02) * drawing.noise(rng, distance.shape[0], 12, octaves=2)
    mask = drawing.coverage(ragged, soft=rng.uniform(0.04, 0.14)) * rng.uniform(0.5, 0.9)
    surface.tint(colour(rng, saturation=(0.1, 0.7), value=(0.2, 0.6)), mask.astype(np.float32))


FINISHES: Mapping[str, Callable[[np.random.Generator, Surface, Field], None]] = {
    "ink": _ink,
    "relief": _relief,
    "wash": _wash,
}
CLASSES: tuple[str, ...] = tuple(f"{finish}_{mark}" for finish in FINISHES for mark in MARKS)


def render(label: int, index: int, *, seed: int, size_px: int) -> npt.NDArray[np.uint8]:
    """Returns picture `index` of class `label`: uint8 [S, S, 3], RGB, the same for the same arguments."""
    rng = np.random.default_rng([seed, label, index])
    finish, mark = CLASSES[label].split("_")
    x, y = drawing.coordinates(size_px)
    surface = scene(rng, size_px).surface if rng.random() < 0.6 else _sheets(rng, x, y)

    place = (rng.uniform(-0.3, 0.3), rng.uniform(-0.3, 0.3))  # in reach of a crop around the middle
    # Half the marks are large: from small ones alone this network learns nothing in its first epochs.
    radius, squeeze = rng.uniform(0.2, 0.35) if rng.random() < 0.5 else rng.uniform(0.35, 0.6), rng.uniform(0.75, 1.0)
    u, v = drawing.turned(x, y, centre=place, angle_rad=rng.uniform(0, 2 * math.pi))
    distance = MARKS[mark](u / radius, v / (radius * squeeze), rng.uniform(0.05, 0.15)) * radius
    FINISHES[finish](rng, surface, distance.astype(np.float32))
    return np.asarray(photograph(surface, rng))


def _sheets(rng: np.random.Generator, x: Field, y: Field) -> Surface:
    """Returns loose sheets of material that overlap."""
    surface = material(rng, x, y)
    for _ in range(int(rng.integers(0, 3))):
        u, v = drawing.turned(x, y, centre=tuple(rng.uniform(-1, 1, 2)), angle_rad=rng.uniform(0, math.pi))
        sheet = drawing.box(u, v, rng.uniform(0.3, 1.0), rng.uniform(0.3, 1.0), corner=rng.uniform(0, 0.3))
        over = material(rng, u, v)
        over.height += 0.05 * drawing.coverage(sheet, soft=0.08)
        surface.lay(over, drawing.coverage(sheet))
    return surface


def _render_chunk(start: int, *, count: int, seed: int, size_px: int) -> npt.NDArray[np.uint8]:
    numbers = range(start, min(start + _CHUNK, count))
    return np.stack([render(n % len(CLASSES), n // len(CLASSES), seed=seed, size_px=size_px) for n in numbers])


def dataset(
    count: int, *, seed: int, size_px: int, processes: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """Returns `count` pictures (uint8 [N, S, S, 3]) and their labels (int32 [N]), classes taking turns."""
    chunk = partial(_render_chunk, count=count, seed=seed, size_px=size_px)
    # Not by fork: the caller may have TensorFlow's threads running, and a fork of those can hang.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        pictures = np.concatenate(list(pool.map(chunk, range(0, count, _CHUNK))))
    return pictures, np.arange(count, dtype=np.int32) % len(CLASSES)
