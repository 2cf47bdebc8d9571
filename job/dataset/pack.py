"""The decoded images of a dataset, kept on disk as one array, or decoded again whenever they are asked for.

The pack is a `.npy` file of uint8 [N, S, S, 3], written at random places by many processes and read
through a memory map; a quarantined image's row stays black.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from job.dataset.cores import num_cores
from job.dataset.decode import decode
from job.dataset.geometry import FitMode, fit, square
from job.dataset.reading import Reader, UnreadableRecordError
from job.errors import DatasetError

_HEADER_BYTES: Final = 128
"""Of a version 1.0 .npy file with this shape; `numpy.lib.format` pads its header to a multiple of 64."""


class Pixels(Protocol):
    """The images of a dataset by row, as the feed asks for them."""

    def __len__(self) -> int:
        """Returns N, quarantined images included."""
        ...

    def gather(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Returns uint8 [B, S, S, 3], RGB 0..255, for int64 [B] rows. Safe to call from several threads."""
        ...


def pack_bytes(num_images: int, stored_px: int) -> int:
    """Returns the size of a pack, bytes."""
    return _HEADER_BYTES + num_images * stored_px * stored_px * 3


def allocate(path: Path, num_images: int, stored_px: int) -> bool:
    """Makes an all-black pack and reserves its disk space, unless it is there; returns False on a disk too small.

    Reserved, as a sparse file on a full disk would kill the reader of the memory map (SIGBUS).
    """
    size = pack_bytes(num_images, stored_px)
    if path.exists() and path.stat().st_size == size:
        return True
    # Under the name last: a file that was reserved in part could have the size already.
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    with partial.open("wb") as file:
        _write_header(file, num_images, stored_px)
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
        except OSError:
            partial.unlink()
            return False
    partial.replace(path)
    return True


def _write_header(file: IO[bytes], num_images: int, stored_px: int) -> None:
    shape = (num_images, stored_px, stored_px, 3)
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    assert file.tell() == _HEADER_BYTES, "the pack's rows would be written at the wrong place"


class PackWriter:
    """Fits images to the stored square and puts each into its row. Threads and processes may share a file.

    Args:
        path: A pack made by `allocate`.
        stored_px: Its height and width S.
        mode: How an image becomes square.
    """

    def __init__(self, path: Path, stored_px: int, mode: FitMode) -> None:
        self._arguments = (path, stored_px, mode)
        self._row_bytes = stored_px * stored_px * 3
        self._descriptor = os.open(path, os.O_RDWR)

    def __reduce__(self) -> tuple[type[PackWriter], tuple[Path, int, FitMode]]:
        return PackWriter, self._arguments

    def put(self, index: int, image: Image.Image | None) -> int:
        """Writes row `index`, black without an image, and returns the CRC-32 of its bytes."""
        _, stored_px, mode = self._arguments
        pixels = bytes(self._row_bytes) if image is None else square(image, stored_px, mode).tobytes()
        return self.write(index, pixels)

    def write(self, index: int, pixels: bytes) -> int:
        """Writes row `index` and returns the CRC-32 of its bytes."""
        row, at = memoryview(pixels), self._place(index)
        # pwrite instead of a writable memory map: no page faults, and a full disk is an error, not a signal.
        while row:
            written = os.pwrite(self._descriptor, row, at)
            row, at = row[written:], at + written
        return zlib.crc32(pixels)

    def holds(self, index: int, crc32: int) -> bool:
        """Says whether row `index` is what `put` returned this number for."""
        return zlib.crc32(os.pread(self._descriptor, self._row_bytes, self._place(index))) == crc32

    def _place(self, index: int) -> int:
        return _HEADER_BYTES + index * self._row_bytes

    def close(self) -> None:
        """Closes the file."""
        os.close(self._descriptor)


class PackedPixels:
    """Pixels from a pack on disk; the operating system caches what is used."""

    def __init__(self, path: Path) -> None:
        # asarray: what is taken of an np.memmap would be called a memmap, too.
        self._pixels: NDArray[np.uint8] = np.asarray(np.load(path, mmap_mode="r"))

    def __len__(self) -> int:
        return len(self._pixels)

    def gather(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        return np.take(self._pixels, indices, axis=0)


class DecodedPixels:
    """Pixels decoded on the fly, for a dataset over the disk budget; the same values as a pack's.

    Args:
        uris: Of all N rows.
        reader: Gives their bytes.
        is_ok: Whether a row is to be decoded; the others stay black.
    """

    def __init__(
        self, uris: Sequence[str], reader: Reader, is_ok: Callable[[int], bool], stored_px: int, mode: FitMode
    ) -> None:
        self._uris, self._reader, self._is_ok = uris, reader, is_ok
        self._stored_px, self._mode = stored_px, mode
        self._pool = ThreadPoolExecutor(num_cores(), thread_name_prefix="decode")

    def __len__(self) -> int:
        return len(self._uris)

    def gather(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        pixels = np.zeros((len(indices), self._stored_px, self._stored_px, 3), np.uint8)

        def put(place: int) -> None:
            index = int(indices[place])
            if self._is_ok(index):
                pixels[place] = self._decode(self._uris[index])

        for _ in self._pool.map(put, range(len(indices))):
            pass
        return pixels

    def _decode(self, uri: str) -> NDArray[np.uint8]:
        try:
            decoded = decode(self._reader.read(uri), uri, stored_px=self._stored_px)
            reason = decoded.reason
        except (OSError, UnreadableRecordError) as error:
            decoded, reason = None, str(error)
        if decoded is None or decoded.image is None:
            raise DatasetError(
                f"The image {uri!r} could be decoded when the dataset was surveyed, but now cannot: {reason}.",
                next_step="Leave the dataset alone while the job runs, and start the job again.",
            )
        return fit(decoded.image, self._stored_px, self._mode)
