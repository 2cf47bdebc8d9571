"""What counts as the same picture and what does not, on drawn pictures and on real photographs."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from job.dataset import likeness
from job.dataset.likeness import coarse, is_finely_alike, is_same, miniature, perceptual_hashes, picture, proposals
from job.demo import images as demo

Change = Callable[[Image.Image], Image.Image]


def perceptual_hash(image: Image.Image) -> str:
    return perceptual_hashes([miniature(image)])[0]


def bits_apart(one: Image.Image, other: Image.Image) -> int:
    return (coarse(perceptual_hash(one)) ^ coarse(perceptual_hash(other))).bit_count()


def coded(image: Image.Image, form: str, quality: int) -> Image.Image:
    out = io.BytesIO()
    image.save(out, form, quality=quality)
    return Image.open(io.BytesIO(out.getvalue())).convert("RGB")


def scratched(image: Image.Image) -> Image.Image:
    pixels = np.asarray(image).astype(np.int16)
    pixels[100:104, 60:140] += 70
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


SAME: dict[str, Change] = {
    "JPEG 60": lambda image: coded(image, "JPEG", 60),
    "WebP 60": lambda image: coded(image, "WEBP", 60),
    "half": lambda image: image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS),
    "brighter": lambda image: image.point(lambda value: min(255, int(value * 1.04))),
}


def lit_from_the_side(image: Image.Image) -> Image.Image:
    light = np.linspace(-70, 70, image.width)[None, :, None]
    return Image.fromarray(np.clip(np.asarray(image) * 0.5 + 64 + light, 0, 255).astype(np.uint8))


def dimmed(image: Image.Image) -> Image.Image:
    return Image.fromarray((np.asarray(image) * 0.5 + 64).astype(np.uint8))


OTHER: dict[str, Change] = {
    "crop": lambda image: image.crop((20, 20, image.width - 20, image.height - 20)),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "scratched": scratched,
}


@pytest.fixture(scope="module")
def photographs(assets: Path) -> list[Image.Image]:
    """Returns 24 photographs of 224 x 224 pixels, two of each of 12 flowers."""
    folders = sorted((assets / "data/flowers12/test").iterdir())
    paths = [path for folder in folders for path in sorted(folder.iterdir())[:2]]
    return [Image.open(path).convert("RGB") for path in paths]


def test_the_hash_of_a_picture_is_the_same_whatever_it_is_hashed_with() -> None:
    flat = Image.new("RGB", (40, 30), (9, 9, 9))
    pictures = [demo.render(name, index, seed=0, size_px=96) for name in demo.CLASSES for index in range(3)]
    images = [flat, *pictures]
    together = perceptual_hashes([miniature(image) for image in images])
    assert together == [perceptual_hash(image) for image in images]
    assert len(set(together)) == len(images)
    assert perceptual_hashes([]) == []


@pytest.mark.parametrize("change", SAME)
def test_a_photograph_is_the_same_however_it_is_coded_or_scaled(photographs: list[Image.Image], change: str) -> None:
    pairs = [(image, SAME[change](image)) for image in photographs]
    found = [
        bits_apart(one, other) <= likeness.MAX_BITS_APART and is_same(picture(one), picture(other))
        for one, other in pairs
    ]
    assert sum(found) >= 0.9 * len(found)
    assert all(is_finely_alike(perceptual_hash(one), perceptual_hash(other)) for one, other in pairs)


@pytest.mark.parametrize("change", OTHER)
def test_another_crop_side_or_scratch_is_another_photograph(photographs: list[Image.Image], change: str) -> None:
    found = [is_same(picture(image), picture(OTHER[change](image))) for image in photographs]
    assert sum(found) <= 0.05 * len(found)


def test_another_light_makes_another_photograph(photographs: list[Image.Image]) -> None:
    dim = [dimmed(image) for image in photographs]
    lit = [lit_from_the_side(image) for image in photographs]
    bright = [image.point(lambda value: value + 30) for image in dim]
    for others in (lit, bright):
        assert not any(is_same(picture(one), picture(other)) for one, other in zip(dim, others, strict=True))
    assert all(is_same(picture(one), picture(coded(one, "PNG", 0))) for one in dim), "the control"


def test_no_two_photographs_are_one(photographs: list[Image.Image]) -> None:
    pictures = [picture(image) for image in photographs]
    assert not any(is_same(one, other) for one, other in itertools.combinations(pictures, 2))
    hashes = [perceptual_hash(image) for image in photographs]
    assert not any(is_finely_alike(one, other) for one, other in itertools.combinations(hashes, 2))


def test_no_two_pictures_of_the_demo_are_one() -> None:
    made = [demo.render(name, index, seed=0, size_px=112) for name in demo.CLASSES for index in range(12)]
    pictures = [picture(image) for image in made]
    assert not any(is_same(one, other) for one, other in itertools.combinations(pictures, 2))
    assert is_same(pictures[0], picture(coded(made[0], "JPEG", 80))), "the control: a copy is found"


def wall(seed: int, *, size_px: int = 224, shading: float = 30.0) -> Image.Image:
    y, x = np.mgrid[-1 : 1 : size_px * 1j, -1 : 1 : size_px * 1j]
    grain = np.random.default_rng(seed).normal(0, 6, (size_px, size_px, 3))
    return Image.fromarray(np.clip(200 - shading * (x * x + y * y)[..., None] + grain, 0, 255).astype(np.uint8))


@pytest.mark.parametrize("size_px", [40, 224, 1000])
def test_two_photographs_of_a_wall_are_two(size_px: int) -> None:
    walls = [wall(seed, size_px=size_px) for seed in range(5)]
    assert not any(is_same(picture(one), picture(other)) for one, other in itertools.combinations(walls, 2))


def test_what_shows_nothing_has_no_hash_and_is_the_same_as_nothing() -> None:
    assert perceptual_hash(wall(0, size_px=400, shading=0.0)) == ""
    flat = [Image.new("RGB", (64, 64), color) for color in ((200, 40, 40), (201, 40, 40))]
    assert [perceptual_hash(image) for image in flat] == ["", ""]


def test_scaled_shapes_are_one_shape_and_others_are_not() -> None:
    assert likeness.has_same_shape((640, 480), (320, 240))
    assert likeness.has_same_shape((640, 427), (100, 67))
    assert not likeness.has_same_shape((640, 480), (480, 640))
    assert not likeness.has_same_shape((640, 480), (640, 426))


def hashes(num: int) -> NDArray[np.uint64]:
    return np.random.default_rng(0).integers(0, 1 << 63, num, dtype=np.uint64)


def flipped(value: np.uint64, seed: int, num_bits: int) -> np.uint64:
    for bit in np.random.default_rng(seed).choice(63, num_bits, replace=False):
        value ^= np.uint64(1) << np.uint64(bit)
    return value


def test_all_copies_among_a_hundred_thousand_are_proposed_and_little_else() -> None:
    num_copies = 2000
    many = hashes(100_000)
    for copy in range(num_copies):
        many[-1 - copy] = flipped(many[copy], copy, copy % 5)
    found = {tuple(pair) for pair in proposals(many).tolist()}
    wanted = {(copy, len(many) - 1 - copy) for copy in range(num_copies)}
    assert len(wanted - found) <= 0.01 * num_copies
    assert {pair for pair in wanted if pair[0] % 5 == 0} <= found, "equal hashes are always proposed"
    assert len(found - wanted) < 100


def test_thousands_of_equal_hashes_propose_a_number_that_grows_with_them_alone() -> None:
    found = proposals(np.full(5000, 7, np.uint64))
    assert len(found) < 16 * 5000
    assert {int(place) for place in found.ravel()} == set(range(5000)), "each has a neighbour"


def test_the_most_alike_come_first_and_nothing_comes_of_nothing() -> None:
    some = hashes(3)
    near = np.array([some[0], flipped(some[1], 1, 4), some[1], some[2], some[0]], np.uint64)
    assert proposals(near).tolist() == [[0, 4], [1, 2]]
    for num in (0, 1):
        assert proposals(hashes(num)).shape == (0, 2)
