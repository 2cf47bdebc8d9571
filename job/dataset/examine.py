"""What is found out about an image, once: its bytes are read, hashed, decoded and packed."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from PIL import Image

from job.dataset.decode import decode
from job.dataset.example import Verdict
from job.dataset.likeness import miniature, perceptual_hashes
from job.dataset.pack import PackWriter
from job.dataset.reading import OutsideError, Reader, UnreadableRecordError


class Finding(NamedTuple):
    """An image's part of a `Row`, whose meaning the fields have, and what only the survey needs.

    A tuple: made, changed and sent between processes in a third of the time of a frozen dataclass.

    Attributes:
        perceptual_hash: Of an OK image (`likeness.perceptual_hashes`).
        pixels_crc32: Of the image's row in the pack; 0 where nothing is packed.
    """

    verdict: Verdict
    reason: str = ""
    notes: str = ""
    sha256: str = ""
    width_px: int = 0
    height_px: int = 0
    size_bytes: int = 0
    perceptual_hash: str = ""
    pixels_crc32: int = 0

    @classmethod
    def of(cls, verdict: str, *rest: Any) -> Finding:
        """Returns the finding with these values; raises ValueError or TypeError for others."""
        return cls(Verdict(verdict), *rest)


@dataclass(frozen=True)
class Examiner:
    """Examines images; pickled into worker processes.

    Attributes:
        min_px: Shortest side of a usable image.
        max_megapixels: Largest area of a usable image, 10^6 pixels.
        stored_px: Side of the square that the images are for, pixels.
        writer: Where the pixels go; None surveys only.
    """

    reader: Reader
    min_px: int
    max_megapixels: float
    stored_px: int
    writer: PackWriter | None = None

    def __call__(self, images: Iterable[tuple[int, str]]) -> list[tuple[int, Finding]]:
        """Returns what was found in some images (index, uri), which are taken and looked at one after the other.

        Row `index` of the pack has the pixels of an image, or none. Raises on a full disk only.
        """
        seen = [(index, *self._look(index, uri)) for index, uri in images]
        hashes = iter(perceptual_hashes([small for _, _, small in seen if small]))
        return [
            (index, finding._replace(perceptual_hash=next(hashes)) if small else finding)
            for index, finding, small in seen
        ]

    def _look(self, index: int, uri: str) -> tuple[Finding, bytes]:
        """Returns what was found but for the perceptual hash, and what is hashed: b"" without an image."""
        data = self._data(uri)
        if isinstance(data, Finding):
            return data._replace(pixels_crc32=self._pack(index, None)), b""
        found = decode(data, uri, min_px=self.min_px, max_megapixels=self.max_megapixels, stored_px=self.stored_px)
        finding = Finding(
            verdict=found.verdict,
            reason=found.reason,
            notes="; ".join(found.notes),
            sha256=hashlib.sha256(data).hexdigest(),
            width_px=found.width_px,
            height_px=found.height_px,
            size_bytes=len(data),
            pixels_crc32=self._pack(index, found.image),
        )
        return finding, b"" if found.image is None else miniature(found.image)

    def _pack(self, index: int, image: Image.Image | None) -> int:
        return 0 if self.writer is None else self.writer.put(index, image)

    def _data(self, uri: str) -> bytes | Finding:
        try:
            return self.reader.read(uri)
        except OutsideError as error:
            return Finding(Verdict.OUTSIDE, str(error))
        except FileNotFoundError:
            return Finding(Verdict.MISSING, "there is no such file")
        except OSError as error:
            verdict = Verdict.TOO_LARGE if error.errno == errno.EFBIG else Verdict.MISSING
            return Finding(verdict, error.strerror or str(error))
        except UnreadableRecordError as error:
            return Finding(Verdict.CORRUPT, str(error))
