"""Materials, light and a camera: turns a drawn surface into a photograph.

A `Surface` holds what a thing is (relief, colour, gloss); `photograph` decides what one sees of it. Shapes and
defects change the surface only, so that every one of them is lit, blurred and grained like its surroundings.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from job.demo import drawing
from job.demo.drawing import Field


@dataclass
class Surface:
    """What lies in front of the camera, one value a pixel.

    Attributes:
        height: float32 [S, S], picture units, upwards to the camera.
        albedo: float32 [S, S, 3], RGB, 0..1.
        gloss: float32 [S, S], strength of the highlights, 0..1.
    """

    height: Field
    albedo: Field
    gloss: Field

    def paint(self, colour: Field, mask: Field) -> None:
        """Covers with a colour (float32 [3] or [S, S, 3]) where the mask is 1, and in parts where it is between."""
        self.albedo += (colour - self.albedo) * mask[..., None]

    def tint(self, colour: Field, mask: Field) -> None:
        """Multiplies by a colour (float32 [3]) as a wash of ink does, so that the texture below shows through."""
        self.albedo *= 1 + (colour - 1) * mask[..., None]

    def lay(self, other: Surface, mask: Field) -> None:
        """Lays another surface over this one where the mask is 1."""
        self.paint(other.albedo, mask)
        self.height += (other.height - self.height) * mask
        self.gloss += (other.gloss - self.gloss) * mask


def colour(rng: np.random.Generator, *, saturation: tuple[float, float], value: tuple[float, float]) -> Field:
    """Returns a colour of any hue, float32 [3], 0..1."""
    return np.asarray(colorsys.hsv_to_rgb(rng.random(), rng.uniform(*saturation), rng.uniform(*value)), np.float32)


def _brushed_metal(rng: np.random.Generator, x: Field, y: Field) -> Surface:
    size_px = x.shape[0]
    along, across = drawing.turned(x, y, angle_rad=rng.uniform(0, math.pi))
    if rng.random() < 0.3:  # turned on a lathe: the brush went round
        across = np.hypot(along - rng.uniform(-1, 1), across - rng.uniform(-1, 1))
    lines = drawing.streaks(rng, across, int(size_px * rng.uniform(0.8, 2.0)))
    grey = rng.uniform(0.35, 0.75) + rng.uniform(0.02, 0.05) * lines
    warm = np.asarray([1, rng.uniform(0.88, 1.02), rng.uniform(0.7, 1.08)], np.float32)
    return Surface(0.0006 * lines, grey[..., None] * warm, np.full_like(x, rng.uniform(0.3, 0.6)))


def _plastic(rng: np.random.Generator, x: Field, y: Field) -> Surface:
    grain = drawing.noise(rng, x.shape[0], x.shape[0] // 2)
    shade = 1 + rng.uniform(0.0, 0.03) * grain
    base = colour(rng, saturation=(0.0, 0.8), value=(0.2, 0.9))
    return Surface(rng.uniform(0, 0.0015) * grain, shade[..., None] * base, np.full_like(x, rng.uniform(0.05, 0.4)))


def _wood(rng: np.random.Generator, x: Field, y: Field) -> Surface:
    size_px = x.shape[0]
    along, across = drawing.turned(x, y, angle_rad=rng.uniform(0, math.pi))
    warp = rng.uniform(0.03, 0.12) * drawing.noise(rng, size_px, 3, octaves=2)
    rings = np.sin(rng.uniform(8, 30) * (across + warp + 0.15 * along * along))
    fibre = drawing.streaks(rng, across + 0.3 * warp, size_px)
    shade = 1 + rng.uniform(0.04, 0.14) * rings + 0.04 * fibre
    base = np.asarray(
        colorsys.hsv_to_rgb(rng.uniform(0.05, 0.1), rng.uniform(0.3, 0.6), rng.uniform(0.4, 0.8)), np.float32
    )
    return Surface(0.001 * fibre, shade[..., None] * base, np.full_like(x, rng.uniform(0, 0.15)))


def _cast(rng: np.random.Generator, x: Field, y: Field) -> Surface:
    size_px = x.shape[0]
    lumps = drawing.noise(rng, size_px, int(rng.integers(6, 24)), octaves=3)
    shade = 1 + rng.uniform(0.02, 0.08) * drawing.noise(rng, size_px, 3, octaves=4)
    base = colour(rng, saturation=(0.0, 0.2), value=(0.25, 0.65))
    return Surface(rng.uniform(0.001, 0.003) * lumps, shade[..., None] * base, np.full_like(x, rng.uniform(0, 0.3)))


def _speckled(rng: np.random.Generator, x: Field, y: Field) -> Surface:
    grain = drawing.noise(rng, x.shape[0], int(x.shape[0] * rng.uniform(0.3, 0.6)))
    specks = np.clip((grain - rng.uniform(0.8, 1.6)) * 3, 0, 1)[..., None]
    base = colour(rng, saturation=(0.0, 0.3), value=(0.4, 0.9))
    dots = colour(rng, saturation=(0.0, 0.4), value=(0.15, 0.8))
    albedo = base + (dots - base) * specks * rng.uniform(0.2, 0.6)
    return Surface(np.zeros_like(x), albedo.astype(np.float32), np.full_like(x, rng.uniform(0, 0.3)))


MATERIALS: tuple[Callable[[np.random.Generator, Field, Field], Surface], ...] = (
    _brushed_metal,
    _plastic,
    _wood,
    _cast,
    _speckled,
)


def material(rng: np.random.Generator, x: Field, y: Field) -> Surface:
    """Returns a plain surface of a random material that fills the picture; x, y: `drawing.coordinates`."""
    made = MATERIALS[int(rng.integers(len(MATERIALS)))](rng, x, y)
    return Surface(made.height.astype(np.float32), made.albedo.astype(np.float32), made.gloss.astype(np.float32))


def photograph(surface: Surface, rng: np.random.Generator) -> Image.Image:
    """Returns the RGB picture that a middling camera takes of the surface under a random light.

    Lambert and Blinn-Phong shading of the relief, light that falls off across the picture, white balance and
    exposure a little off, blur, and sensor noise.
    """
    size_px = surface.height.shape[0]
    azimuth, elevation = rng.uniform(0, 2 * math.pi), rng.uniform(0.6, 1.1)
    lx, ly, lz = math.cos(azimuth) * math.cos(elevation), math.sin(azimuth) * math.cos(elevation), math.sin(elevation)
    slope_y, slope_x = np.gradient(surface.height, 2 / size_px)
    norm = 1 / np.sqrt(slope_x**2 + slope_y**2 + 1)
    diffuse = np.maximum((lz - lx * slope_x - ly * slope_y) * norm, 0) / lz
    half = math.hypot(lx, ly, lz + 1)
    facing = np.maximum((lz + 1 - lx * slope_x - ly * slope_y) * norm / half, 0)
    shine = surface.gloss * facing ** rng.uniform(20, 50)
    shine -= surface.gloss * ((lz + 1) / half) ** 35 * 0.5  # what a flat place reflects is part of the exposure

    x, y = drawing.coordinates(size_px)
    gx, gy = drawing.turned(x, y, angle_rad=azimuth)
    falloff = 1 + rng.uniform(0, 0.35) * gx - rng.uniform(0, 0.15) * (gx * gx + gy * gy)
    ambient = rng.uniform(0.3, 0.55)
    light = (ambient + (1 - ambient) * diffuse) * falloff * rng.uniform(0.8, 1.15)
    balance = np.asarray(rng.uniform(0.92, 1.08, 3), np.float32)
    picture = (surface.albedo * light[..., None] + shine[..., None] * 0.6) * balance

    sharp = Image.fromarray(np.clip(picture * 255, 0, 255).astype(np.uint8))
    seen = np.asarray(sharp.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.006) * size_px)), np.float32)
    grain = rng.standard_normal(seen.shape, dtype=np.float32) * rng.uniform(1, 7)
    return Image.fromarray(np.clip(seen + grain, 0, 255).astype(np.uint8))
