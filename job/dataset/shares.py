"""Several machines prepare one dataset: each examines and packs its share of the images, and all get the whole table.

The examples are the same list everywhere, and worker w of W has the w-th of W runs of it, equal ones or those of whole
shards: a run, as files that lie together are read together. What the workers found goes round once; the chief alone
compares images with each other and sends its table round, so that all split the same images alike.

Which images a machine trains on is not for this room to say: the batch of a step is the same for any number of
machines, so sooner or later each feeds images of another's share. It decodes them when it first asks for them, once.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from job.dataset import table
from job.dataset.examine import Finding
from job.dataset.example import Example, Row, Verdict
from job.dataset.pack import DecodedPixels, PackedPixels, PackWriter
from job.errors import DatasetError


@dataclass(frozen=True)
class Share:
    """What one of several machines does of a survey.

    Attributes:
        gather: Takes this machine's bytes and returns every machine's, in their order. All must call it.
        look: Raises where another machine was lost meanwhile; called several times a second during a survey.
        ends: The row after the last of each machine's, where their runs are not equal ones.
    """

    worker: int
    num_workers: int
    gather: Callable[[bytes], Sequence[bytes]]
    look: Callable[[], None] = lambda: None
    ends: tuple[int, ...] = ()

    def rows(self, num: int) -> range:
        """Returns which of `num` rows are this machine's."""
        if self.ends:
            return range((0, *self.ends)[self.worker], self.ends[self.worker])
        size = -(-num // self.num_workers)
        return range(min(self.worker * size, num), min((self.worker + 1) * size, num))

    def agree(
        self,
        examples: Sequence[Example],
        found: Mapping[int, Finding],
        survey_csv: Path,
        rows_of: Callable[[Mapping[int, Finding]], list[Row]],
    ) -> list[Row]:
        """Returns the table of the whole dataset, the same on every machine, and keeps it as `survey_csv`.

        Where an earlier call left a table on any of them, the first one of these stands for all findings.

        Args:
            found: Index → finding of this machine's share.
            rows_of: Makes the rows of all findings; called on the chief alone.

        Raises:
            DatasetError: When the machines do not see the same list of examples.
        """
        held = hashlib.sha256(survey_csv.read_bytes()).hexdigest() if survey_csv.exists() else ""
        findings = [] if held else [[index, *finding] for index, finding in found.items()]
        heard = self.told([_digest(examples), held, findings])
        others = [worker for worker, (digest, _, _) in enumerate(heard) if digest != heard[0][0]]
        if others:
            raise strangers(f"the lists of workers {others} are not that of worker 0")
        tables = [table_digest for _, table_digest, _ in heard]
        if held and len(set(tables)) == 1:
            return table.read(survey_csv)
        source = next((worker for worker, each in enumerate(tables) if each), 0)
        rows: list[Row] = []
        if self.worker == source:
            merged = {index: Finding.of(*values) for _, _, each in heard for index, *values in each}
            rows = table.read(survey_csv) if held else rows_of(merged)
        rows = [table.row(*values) for values in self.told([table.values(row) for row in rows])[source]]
        table.write(survey_csv, rows)
        return rows

    def told(self, mine: object) -> list[Any]:
        """Returns what every machine says, this one `mine`: plain values. All must call it."""
        # Hashes as text are most of it, and shrink to half.
        said = self.gather(zlib.compress(json.dumps(mine).encode("ascii"), level=1))
        return [json.loads(zlib.decompress(each)) for each in said]


def strangers(how: str) -> DatasetError:
    """Returns the error for machines of which each looks at another dataset."""
    return DatasetError(
        f"The machines see different images: {how}.",
        next_step="Give all of them the same data, and leave it alone while the job runs.",
    )


class SharedPixels:
    """A pack of which this machine made its share; of another row it decodes the image when it first asks for it.

    Beside the pack lies the CRC-32 of each row that is in it, 0 of the others. A row is compared with it once: after a
    power failure the number may be on the disk and the pixels not.

    Args:
        path: The pack; `keep` wrote the numbers of this machine's share.
        decoded: Gives the images of the other rows.
        writer: Of the same file.
    """

    def __init__(self, path: Path, decoded: DecodedPixels, writer: PackWriter) -> None:
        self._packed = PackedPixels(path)
        self._decoded, self._writer = decoded, writer
        self._crc32 = np.memmap(_numbers(path), np.uint32, "r+", shape=(len(self._packed),))
        self._is_known = np.zeros(len(self._packed), bool)

    def __len__(self) -> int:
        return len(self._packed)

    def gather(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        unknown = np.unique(indices[~self._is_known[indices]])
        missing = np.array([index for index in unknown if not self._holds(int(index))], np.int64)
        if len(missing):
            for index, pixels in zip(missing, self._decoded.gather(missing), strict=True):
                self._crc32[index] = self._writer.write(int(index), pixels.tobytes())
        self._is_known[unknown] = True
        return self._packed.gather(indices)

    def _holds(self, index: int) -> bool:
        crc32 = int(self._crc32[index])
        return crc32 != 0 and self._writer.holds(index, crc32)


def keep(partial: Path, path: Path, found: Mapping[int, Finding], num: int) -> None:
    """Gives a pack of a share its name, after the numbers of its rows."""
    crc32 = np.zeros(num, np.uint32)
    for index, finding in found.items():
        if finding.verdict is Verdict.OK:
            crc32[index] = finding.pixels_crc32
    numbers = _numbers(path)
    temporary = numbers.with_name(f"{numbers.name}.{os.getpid()}")
    crc32.tofile(temporary)
    temporary.replace(numbers)
    partial.replace(path)


def _numbers(path: Path) -> Path:
    return path.with_suffix(".crc32")


def _digest(examples: Sequence[Example]) -> str:
    digest = hashlib.sha256()
    for example in examples:
        line = f"{example.uri}\0{example.label}\0{example.split}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
