"""Hundreds of damaged image files through the real survey: each ends in a verdict, none in a crash or a hang."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from job.dataset import survey
from job.dataset.decode import decode
from job.dataset.examine import Examiner
from job.dataset.example import Example, Row, Verdict
from job.dataset.geometry import reduction
from job.dataset.pack import PackWriter, allocate
from job.dataset.reading import FileReader

Encode = Callable[..., bytes]
Mutation = Callable[[bytearray, np.random.Generator, list[bytes]], bytes]

FORMS: dict[str, dict[str, object]] = {
    "JPEG": {"form": "JPEG", "quality": 80},
    "progressive JPEG": {"form": "JPEG", "progressive": True},
    "CMYK JPEG": {"form": "JPEG", "mode": "CMYK"},
    "PNG": {"form": "PNG"},
    "palette PNG": {"form": "PNG", "mode": "P"},
    "GIF": {"form": "GIF", "mode": "P"},
    "BMP": {"form": "BMP"},
    "WebP": {"form": "WEBP"},
    "lossless WebP": {"form": "WEBP", "mode": "RGBA", "lossless": True},
    "TIFF": {"form": "TIFF", "compression": "tiff_lzw"},
}


def flip_bits(data: bytearray, rng: np.random.Generator, others: list[bytes]) -> bytes:
    for place in rng.integers(len(data), size=rng.integers(1, 20)):
        data[place] ^= 1 << int(rng.integers(8))
    return bytes(data)


def truncate(data: bytearray, rng: np.random.Generator, others: list[bytes]) -> bytes:
    return bytes(data[: rng.integers(len(data))])


def overwrite_header(data: bytearray, rng: np.random.Generator, others: list[bytes]) -> bytes:
    start, size = int(rng.integers(min(64, len(data)))), int(rng.integers(1, 9))
    data[start : start + size] = rng.bytes(size)
    return bytes(data)


def splice(data: bytearray, rng: np.random.Generator, others: list[bytes]) -> bytes:
    other = others[rng.integers(len(others))]
    return other[: rng.integers(4, 64)] + bytes(data[rng.integers(4, 64) :])


def repeat(data: bytearray, rng: np.random.Generator, others: list[bytes]) -> bytes:
    start, end = sorted(rng.integers(len(data), size=2).tolist())
    return bytes(data[:end] + data[start:end] * 3 + data[end:])


def leave_alone(data: bytearray, rng: np.random.Generator, others: list[bytes]) -> bytes:
    return bytes(data)  # Under the extension of another format.


MUTATIONS: tuple[Mutation, ...] = (flip_bits, truncate, overwrite_header, splice, repeat, leave_alone)
EACH = 8
PX = 65
EXTENSIONS = (".jpg", ".png", ".gif", ".bmp", ".webp", ".tif", ".heic", "")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.unit.dataset.conftest import _encoded

    folder, rng = tmp_path_factory.mktemp("fuzz"), np.random.default_rng(0)
    whole = [_encoded(number, size=(160, 130), **how) for number, how in enumerate(FORMS.values())]  # type: ignore[arg-type]
    for form, data in zip(FORMS, whole, strict=True):
        for mutation in MUTATIONS:
            for number in range(EACH):
                name = f"{form} {mutation.__name__} {number}{EXTENSIONS[rng.integers(len(EXTENSIONS))]}"
                (folder / name).write_bytes(mutation(bytearray(data), rng, whole))
    return folder


@pytest.fixture(scope="module")
def rows(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    """Returns what the survey, in worker processes and packing, finds in the corpus."""
    names = sorted(path.name for path in corpus.iterdir())
    assert len(names) == len(FORMS) * len(MUTATIONS) * EACH
    pack = tmp_path_factory.mktemp("pack") / "pixels.npy"
    assert allocate(pack, len(names), PX)
    writer = PackWriter(pack, PX, "squash")
    examples, reader = [Example(name, "cat") for name in names], FileReader(corpus)
    found = survey.rows_of(examples, survey.look(examples, Examiner(reader, 8, 1.0, PX, writer)), reader)
    writer.close()
    black = ~np.load(pack).any(axis=(1, 2, 3))
    assert all(black[row.index] for row in found if row.verdict is not Verdict.OK), "a bad image has pixels"
    return found


def test_every_mutation_ends_in_a_verdict_with_its_reason(rows: list[Row]) -> None:
    assert not [row.uri for row in rows if bool(row.reason) is (row.verdict is Verdict.OK)]
    assert not [row.uri for row in rows if "process that decoded it died" in row.reason]
    verdicts = Counter(row.verdict for row in rows)
    assert {Verdict.OK, Verdict.CORRUPT, Verdict.TRUNCATED, Verdict.NOT_AN_IMAGE} <= set(verdicts)


def test_what_is_called_usable_can_be_used_and_gives_the_same_again(rows: list[Row], corpus: Path) -> None:
    usable = [row for row in rows if row.verdict is Verdict.OK]
    assert len(usable) > 100
    for row in usable:
        data = (corpus / row.uri).read_bytes()
        one, other = (decode(data, row.uri, min_px=8, stored_px=PX).image for _ in range(2))
        assert one is not None
        assert other is not None
        by = 1 if data[:3] != b"\xff\xd8\xff" else reduction(row.width_px, row.height_px, PX)
        assert (one.mode, one.size) == ("RGB", (-(-row.width_px // by), -(-row.height_px // by)))
        assert one.tobytes() == other.tobytes()


def test_a_wrong_extension_costs_a_note_and_a_cut_file_is_never_whole(rows: list[Row]) -> None:
    assert all(row.verdict is Verdict.OK for row in rows if "leave_alone" in row.uri)
    cut = [row for row in rows if "truncate" in row.uri and row.verdict is Verdict.OK]
    assert len(cut) <= 0.1 * len(FORMS) * EACH, cut
