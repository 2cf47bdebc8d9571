"""How an image becomes square."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from job.dataset.geometry import FitMode, crop_box, fit, padded_size, reduction

REPEATABLE = settings(deadline=None, derandomize=True, database=None)


def ramp(width: int, height: int) -> Image.Image:
    x, y = np.meshgrid(np.linspace(50, 250, width), np.linspace(50, 250, height))
    return Image.fromarray(np.stack([x, y, np.full_like(x, 99)], -1).astype(np.uint8))


@pytest.mark.parametrize("mode", ["squash", "crop", "pad"])
@pytest.mark.parametrize("size", [(40, 20), (20, 40), (17, 17), (1, 90)])
def test_the_result_is_square_uint8(mode: FitMode, size: tuple[int, int]) -> None:
    pixels = fit(ramp(*size), 16, mode)
    assert (pixels.shape, pixels.dtype) == ((16, 16, 3), np.uint8)


def test_squash_keeps_the_edges_and_crop_cuts_them() -> None:
    wide = ramp(40, 20)
    assert fit(wide, 20, "squash")[0, :, 0].min() < 60
    cropped = fit(wide, 20, "crop")
    np.testing.assert_array_equal(cropped, np.asarray(wide)[:, 10:30])


def test_pad_centres_the_image_on_black() -> None:
    pixels = fit(ramp(40, 20), 20, "pad")
    assert not pixels[:5].any()
    assert not pixels[15:].any()
    assert pixels[5:15].all()


@REPEATABLE
@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 600))
def test_the_padded_size_keeps_the_aspect_ratio_to_half_a_pixel(width: int, height: int, stored_px: int) -> None:
    scaled = padded_size(width, height, stored_px)
    assert max(scaled) == stored_px
    for side, whole in zip(scaled, (width, height), strict=True):
        assert side == max(1, np.floor(whole * stored_px / max(width, height) + 0.5))


@REPEATABLE
@given(st.integers(1, 5000), st.integers(1, 5000))
def test_the_crop_is_central(width: int, height: int) -> None:
    left, top, right, bottom = crop_box(width, height)
    assert right - left == bottom - top == min(width, height)
    assert 0 <= (width - right) - left <= 1
    assert 0 <= (height - bottom) - top <= 1


@REPEATABLE
@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 600))
def test_a_jpeg_is_shrunk_as_far_as_it_still_covers_the_square(width: int, height: int, stored_px: int) -> None:
    by = reduction(width, height, stored_px)
    assert by in (1, 2, 4, 8)
    least = max(stored_px, 64)
    assert by == 1 or min(width, height) // by >= least
    assert by == 8 or min(width, height) // (2 * by) < least


@pytest.mark.parametrize(
    ("shorter", "by"), [(224, 1), (319, 1), (320, 2), (448, 2), (639, 2), (640, 4), (1279, 4), (1280, 8), (5000, 8)]
)
def test_at_160_px_photographs_of_320_px_and_more_are_shrunk(shorter: int, by: int) -> None:
    assert reduction(shorter, 5000, 160) == reduction(5000, shorter, 160) == by
