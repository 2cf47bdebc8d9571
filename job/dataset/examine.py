"""What is found out about one image, once: its bytes are read, hashed, decoded and packed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from job.dataset.decode import decode
from job.dataset.example import Verdict
from job.dataset.layouts.reading import Reader, UnreadableRecordError
from job.dataset.pack import PackWriter


@dataclass(frozen=True, slots=True)
class Finding:
    """An image's part of a `Row`; the fields have its meaning."""

    verdict: Verdict
    reason: str = ""
    notes: str = ""
    sha256: str = ""
    width_px: int = 0
    height_px: int = 0
    size_bytes: int = 0


@dataclass(frozen=True)
class Examiner:
    """Examines images one at a time; pickled into worker processes.

    Attributes:
        min_px: Shortest side of a usable image.
        max_megapixels: Largest area of a usable image, 10^6 pixels.
        writer: Where the pixels go; None surveys only.
    """

    reader: Reader
    min_px: int
    max_megapixels: float
    writer: PackWriter | None = None

    def __call__(self, index: int, uri: str) -> Finding:
        """Returns what was found, and packs the pixels of an OK image into row `index`. Raises on a full disk only."""
        try:
            data = self.reader.read(uri)
        except FileNotFoundError:
            return Finding(Verdict.MISSING, "there is no such file")
        except OSError as error:
            return Finding(Verdict.MISSING, error.strerror or str(error))
        except UnreadableRecordError as error:
            return Finding(Verdict.CORRUPT, str(error))
        found = decode(data, uri, min_px=self.min_px, max_megapixels=self.max_megapixels)
        if self.writer is not None and found.image is not None:
            self.writer.put(index, found.image)
        return Finding(
            verdict=found.verdict,
            reason=found.reason,
            notes="; ".join(found.notes),
            sha256=hashlib.sha256(data).hexdigest(),
            width_px=found.width_px,
            height_px=found.height_px,
            size_bytes=len(data),
        )
