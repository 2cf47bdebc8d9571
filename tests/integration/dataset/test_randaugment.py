"""RandAugment: each operation does what its name says, in proportion to the magnitude."""

from __future__ import annotations

import numpy as np
import pytest

from job.dataset import randaugment as rand

S = 32
NAMES = rand._NAMES


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Returns three smooth colour pictures float32 [3, S, S, 3] within 20..235."""
    y, x = np.meshgrid(np.linspace(0, 1, S), np.linspace(0, 1, S), indexing="ij")
    waves = [np.stack([np.sin((3 + n) * x + c) * np.cos(4 * y + c + n) for c in range(3)], axis=2) for n in range(3)]
    return (127.5 + 107.5 * np.stack(waves)).astype(np.float32)


def drawn(first: str, sign: int = 1, second: str = "identity") -> np.ndarray:
    """Returns random numbers float32 [3, 4] that draw two operations."""
    half = 0.75 if sign > 0 else 0.25
    row = [(NAMES.index(first) + 0.5) / len(NAMES), half, (NAMES.index(second) + 0.5) / len(NAMES), half]
    return np.tile(np.array(row, np.float32), (3, 1))


def apply(images: np.ndarray, numbers: np.ndarray, magnitude: int) -> np.ndarray:
    found: np.ndarray = rand.randaugment(images, numbers, magnitude=magnitude).numpy()
    return found


@pytest.mark.parametrize("magnitude", [1, 10])
def test_two_identities_leave_the_image_exactly_as_it_was(magnitude: int, images: np.ndarray) -> None:
    np.testing.assert_allclose(apply(images, drawn("identity"), magnitude), images, atol=2e-4)
    whole = images.round()
    np.testing.assert_array_equal(apply(whole, drawn("identity"), magnitude).round(), whole)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "identity"])
def test_a_larger_magnitude_moves_pixels_further(name: str, images: np.ndarray) -> None:
    moved = [np.abs(apply(images, drawn(name), magnitude) - images).mean() for magnitude in (2, 6, 10)]
    assert moved[0] < moved[1] < moved[2]
    assert moved[2] > 0.5


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("identity", "posterize", "solarize")])
def test_the_sign_goes_two_ways(name: str, images: np.ndarray) -> None:
    one, other = (apply(images, drawn(name, sign), 5) for sign in (1, -1))
    assert np.abs(one - other).mean() > 0.1


def test_translation_moves_by_its_share_of_the_side(images: np.ndarray) -> None:
    found = apply(images, drawn("translate_x"), 5)
    shift = 0.3 * S * 0.5
    low = int(np.floor(shift))
    blend = images[:, :, low:-1] * (1 - shift + low) + images[:, :, low + 1 :] * (shift - low)
    np.testing.assert_allclose(found[:, :, : blend.shape[2]], blend, atol=0.05)
    np.testing.assert_allclose(found[:, :, -low:], 128.0, atol=1e-3)


def test_brightness_is_a_factor_and_solarize_inverts_what_is_bright(images: np.ndarray) -> None:
    darker = apply(images, drawn("brightness", -1), 5)
    np.testing.assert_allclose(darker, images * 0.55, atol=0.01)
    inverted = apply(images, drawn("solarize"), 5)
    np.testing.assert_allclose(inverted, np.where(images >= 128, 255 - images, images), atol=0.01)


def test_posterize_keeps_the_upper_bits() -> None:
    ramp = np.tile(np.arange(256, dtype=np.float32)[:, None, None], (1, 1, 3))[None].repeat(3, axis=0)
    found = apply(ramp, drawn("posterize"), 10)
    assert set(np.unique(found)) == {float(value) for value in range(0, 256, 16)}


@pytest.mark.parametrize("first", NAMES)
def test_any_two_operations_keep_to_0_up_to_255(first: str, images: np.ndarray) -> None:
    for second in ("sharpness", "rotate"):
        found = apply(images, drawn(first, second=second), 10)
        assert found.shape == images.shape
        assert found.min() >= 0
        assert found.max() <= 255


def test_each_image_draws_for_itself(images: np.ndarray) -> None:
    numbers = np.concatenate([drawn("identity")[:1], drawn("rotate")[:1], drawn("solarize")[:1]])
    found = apply(images, numbers, 8)
    np.testing.assert_allclose(found[0], images[0], atol=2e-4)
    np.testing.assert_allclose(found[1], apply(images, drawn("rotate"), 8)[1], atol=1e-4)
    np.testing.assert_allclose(found[2], apply(images, drawn("solarize"), 8)[2], atol=1e-4)
