"""What is found out about one image, once: its bytes are read, hashed, decoded and packed."""

from __future__ import annotations

import errno
import hashlib
from dataclasses import dataclass, fields, replace
from operator import attrgetter
from typing import Any, Final

from PIL import Image

from job.dataset.decode import decode
from job.dataset.example import Verdict
from job.dataset.layouts.reading import OutsideError, Reader, UnreadableRecordError
from job.dataset.likeness import perceptual_hash
from job.dataset.pack import PackWriter


@dataclass(frozen=True, slots=True)
class Finding:
    """An image's part of a `Row`, whose meaning the fields have, and what only the survey needs.

    Attributes:
        perceptual_hash: Of an OK image (`likeness.perceptual_hash`).
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

    def values(self) -> tuple[Any, ...]:
        """Returns the fields in their order, for JSON."""
        return _VALUES(self)

    @classmethod
    def of(cls, verdict: str, *rest: Any) -> Finding:
        """Returns the finding with these values; raises ValueError or TypeError for others."""
        return cls(Verdict(verdict), *rest)


# Not dataclasses.astuple, which copies every string.
_VALUES: Final = attrgetter(*(field.name for field in fields(Finding)))


@dataclass(frozen=True)
class Examiner:
    """Examines images one at a time; pickled into worker processes.

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

    def __call__(self, index: int, uri: str) -> Finding:
        """Returns what was found; row `index` of the pack has its pixels, or none. Raises on a full disk only."""
        finding, image = self._look(uri)
        if self.writer is None:
            return finding
        return replace(finding, pixels_crc32=self.writer.put(index, image))

    def _look(self, uri: str) -> tuple[Finding, Image.Image | None]:
        try:
            data = self.reader.read(uri)
        except OutsideError as error:
            return Finding(Verdict.OUTSIDE, str(error)), None
        except FileNotFoundError:
            return Finding(Verdict.MISSING, "there is no such file"), None
        except OSError as error:
            verdict = Verdict.TOO_LARGE if error.errno == errno.EFBIG else Verdict.MISSING
            return Finding(verdict, error.strerror or str(error)), None
        except UnreadableRecordError as error:
            return Finding(Verdict.CORRUPT, str(error)), None
        found = decode(data, uri, min_px=self.min_px, max_megapixels=self.max_megapixels, stored_px=self.stored_px)
        finding = Finding(
            verdict=found.verdict,
            reason=found.reason,
            notes="; ".join(found.notes),
            sha256=hashlib.sha256(data).hexdigest(),
            width_px=found.width_px,
            height_px=found.height_px,
            size_bytes=len(data),
            perceptual_hash="" if found.image is None else perceptual_hash(found.image),
        )
        return finding, found.image
