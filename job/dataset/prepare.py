"""From a folder of images to a dataset that can be trained on: layout → survey and pack → split.

Survey and pack are kept in the work folder under a name made of everything they depend on, and have it only when
they are whole; until then a journal says how far they are. The split is quick and made afresh.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import PIL
from numpy.typing import NDArray

from job.config import DataConfig
from job.dataset import layouts, shares, split, survey, table
from job.dataset.examine import Examiner, Finding
from job.dataset.example import Example, Row, Split, Verdict
from job.dataset.journal import Journal
from job.dataset.layouts import Reader
from job.dataset.layouts.vocabulary import alike_labels
from job.dataset.pack import DecodedPixels, PackedPixels, PackWriter, Pixels, allocate, pack_bytes
from job.dataset.remote import Remote
from job.dataset.shares import Share, SharedPixels
from job.dataset.summary import Summary, summarise
from job.masking import masked

OnProgress = Callable[[str, int, int], None]
"""(what is done: "unpack" or "survey", done, total): bytes and images."""

_FORM: Final = 4
"""Raise it when survey or pack would come out differently for the same input."""


@dataclass(frozen=True)
class Dataset:
    """A surveyed, packed and split dataset of N images.

    Attributes:
        rows: One an image, quarantined ones included; row i has index i.
        classes: Sorted; the label order used everywhere.
        labels: int32 [N], places in `classes`; -1 where quarantined.
        pixels: The images by row.
        summary: Counts for the report.
        is_cached: Whether survey and pack were there from an earlier call.
    """

    rows: tuple[Row, ...]
    classes: tuple[str, ...]
    labels: NDArray[np.int32]
    pixels: Pixels
    reader: Reader
    summary: Summary
    is_cached: bool

    def indices(self, split: Split) -> NDArray[np.int64]:
        """Returns the usable rows of a split: int64 [M], ascending."""
        return np.array([row.index for row in self.rows if row.split is split and row.verdict is Verdict.OK], np.int64)

    def write_csv(self, path: Path) -> None:
        """Writes `dataset.csv`, one line an image; a manifest may name images by URIs that hold secrets."""
        table.write(path, map(_masked, self.rows))

    def encoded(self, index: int) -> bytes:
        """Returns the original file of a row, for the export's proof."""
        return self.reader.read(self.rows[index].uri)


def prepare(
    config: DataConfig,
    *,
    dataset_dir: Path,
    work_dir: Path,
    stored_px: int,
    seed: int,
    on_progress: OnProgress | None = None,
    pack: bool = True,
    local_images: Mapping[str, Path] | None = None,
    share: Share | None = None,
    remote: Remote | None = None,
) -> Dataset:
    """Returns the dataset, surveying and packing it where that was not done yet.

    Args:
        dataset_dir: The dataset's folder, or its one file (manifest, shard, archive), on local disk.
        work_dir: Survey, pack and unpacked archives are kept in here.
        stored_px: Height and width S of the stored images.
        seed: Decides the split.
        pack: Whether to store the decoded images (within `data.pack_gb` and the free disk space); otherwise
            they are decoded whenever they are asked for.
        local_images: Where each image of `layouts.remote_images` was downloaded to.
        share: This machine's part of the work, where several prepare the dataset; all must call.
        remote: Gives the images that are not on local disk.

    Raises:
        InputMissingError: When there is nothing at `dataset_dir`.
        DatasetError: When the data cannot be trained on. Names what is wrong.
        ConfigError: When the split's fractions cannot be met.
    """

    def tell(what: str) -> Callable[[int, int], None]:
        return lambda done, total: on_progress(what, done, total) if on_progress else None

    root, layout = layouts.locate(dataset_dir, config.layout, work_dir=work_dir, on_progress=tell("unpack"))
    index = remote.index if remote else None
    examples = layouts.read(root, layout, work_dir=work_dir, index=index)
    survey.check_classes(examples)
    reader = layouts.reader(
        root, layout, work_dir=work_dir, local=local_images, follow_links=config.follow_links, index=index
    )
    if remote is not None:
        reader = remote.around(reader)
    kept = _Kept(config, examples, reader, work_dir, stored_px, share)
    is_packed = pack and kept.pack_fits
    is_cached = kept.survey_csv.exists() and (not is_packed or kept.pack_path.exists())
    rows = kept.table({}) if is_cached else kept.survey(is_packed, tell("survey"))
    survey.check_usable(rows, max_bad=config.max_bad, survey_csv=str(kept.survey_csv))
    assigned = split.assign(rows, config.split, seed)
    classes = tuple(sorted({row.label for row in assigned if row.verdict is Verdict.OK}))
    numbers = {label: number for number, label in enumerate(classes)}
    return Dataset(
        rows=tuple(assigned),
        classes=classes,
        labels=np.array([numbers[row.label] if row.verdict is Verdict.OK else -1 for row in assigned], np.int32),
        pixels=kept.pixels(assigned, is_packed),
        reader=reader,
        summary=summarise(assigned, split_note=split.plan(rows, config.split).note, warnings=alike_labels(examples)),
        is_cached=is_cached,
    )


class _Kept:
    """What is kept in the work folder between calls, and how it comes there."""

    def __init__(
        self,
        config: DataConfig,
        examples: Sequence[Example],
        reader: Reader,
        work_dir: Path,
        stored_px: int,
        share: Share | None,
    ) -> None:
        self._config, self._examples, self._reader, self._stored_px = config, examples, reader, stored_px
        self._share = share
        self._stamps = [reader.stamp(example.uri) for example in examples]
        # The stored size, as a perceptual hash is that of an image which may have been shrunk while it was decoded.
        judged = f"{_FORM}|{PIL.__version__}|{config.min_px}|{config.max_megapixels}|{config.follow_links}|{stored_px}"
        surveyed = hashlib.sha256(f"{judged}|{config.near_duplicates}\n".encode())
        packed = hashlib.sha256(f"{_FORM}|{PIL.__version__}|{stored_px}|{config.fit}\n".encode())
        for example, stamp in zip(examples, self._stamps, strict=True):
            line = f"{example.uri}\0{example.label}\0{example.split}\0{stamp}\n"
            surveyed.update(line.encode("utf-8", "surrogateescape"))
            packed.update(f"{example.uri}\n".encode("utf-8", "surrogateescape"))
        work_dir.mkdir(parents=True, exist_ok=True)
        self.survey_csv = work_dir / f"survey-{surveyed.hexdigest()[:16]}.csv"
        # A share of a pack does not stand for all of it.
        form = "npy" if share is None else "share.npy"
        self.pack_path = work_dir / f"pixels-{_short(surveyed.hexdigest() + packed.hexdigest())}.{form}"
        self.pack_fits = pack_bytes(len(examples), stored_px) <= config.pack_gb * 1e9
        # Neither depends on what changes while a job is down: a label, or the bytes of one file.
        self._journal_path = work_dir / f"survey-{_short(judged)}.journal"
        self._partial = work_dir / f"pixels-{packed.hexdigest()[:16]}.partial"

    def survey(self, is_packed: bool, on_progress: Callable[[int, int], None]) -> list[Row]:
        """Decodes every image once, and packs the pixels in the same pass where asked for and where there is room.

        What a killed call did is not done again. The table gets its name before the pack has its own: with the
        journal gone or not, whoever comes after a kill in between finds the pixels where the journal says.
        """
        with Journal(self._journal_path) as journal:
            partial = journal.own(self._partial)
            for other in self._partial.parent.glob(f"pixels-{'[0-9a-f]' * 16}.partial"):
                if other != partial and not journal.is_private:
                    other.unlink(missing_ok=True)  # Of a dataset that has changed since.
            is_packed = is_packed and allocate(partial, len(self._examples), self._stored_px)
            if not is_packed and self.survey_csv.exists():
                return self.table({})  # All that is missing is a pack, for which there is no room.
            pack = partial.name if is_packed else None
            packing = closing(PackWriter(partial, self._stored_px, self._config.fit)) if is_packed else nullcontext()
            with packing as writer:
                found = survey.look(
                    self._examples,
                    Examiner(self._reader, self._config.min_px, self._config.max_megapixels, self._stored_px, writer),
                    part=self._share.rows(len(self._examples)) if self._share else None,
                    known=self._known(journal.entries(pack), writer),
                    on_found=lambda found: journal.append(pack, map(self._entry, found)),
                    on_progress=on_progress,
                )
            rows = self.table(found, on_look=lambda: on_progress(len(found), len(found)))
            if is_packed and self._share:
                shares.keep(partial, self.pack_path, found, len(self._examples))
            elif is_packed:
                partial.replace(self.pack_path)
            journal.finish()
        return rows

    def table(self, found: Mapping[int, Finding], *, on_look: Callable[[], None] = lambda: None) -> list[Row]:
        """Returns the table of what was found, by all machines, and keeps it; of nothing: the one that is kept."""

        def rows_of(found: Mapping[int, Finding]) -> list[Row]:
            near = self._config.near_duplicates
            return survey.rows_of(self._examples, found, self._reader, near_duplicates=near, on_look=on_look)

        if self._share:
            return self._share.agree(self._examples, found, self.survey_csv, rows_of)
        if not found:
            return table.read(self.survey_csv)
        rows = rows_of(found)
        table.write(self.survey_csv, rows)
        return rows

    def _known(self, entries: Mapping[tuple[str, str], Finding], writer: PackWriter | None) -> dict[int, Finding]:
        """Returns what need not be examined again: the file is the same, and its pixels are in the pack."""
        found = {}
        for index, (example, stamp) in enumerate(zip(self._examples, self._stamps, strict=True)):
            finding = entries.get((example.uri, stamp)) if stamp else None
            if finding is not None and (writer is None or writer.holds(index, finding.pixels_crc32)):
                found[index] = finding
        return found

    def _entry(self, found: tuple[int, Finding]) -> tuple[str, str, Finding]:
        index, finding = found
        return self._examples[index].uri, self._stamps[index], finding

    def pixels(self, rows: Sequence[Row], is_packed: bool) -> Pixels:
        """Returns the pack, or what decodes on the fly where there was no room for one."""
        is_there = is_packed and self.pack_path.exists()
        if is_there and not self._share:
            return PackedPixels(self.pack_path)
        uris = [row.uri for row in rows]
        is_ok = [row.verdict is Verdict.OK for row in rows]
        decoded = DecodedPixels(uris, self._reader, is_ok.__getitem__, self._stored_px, self._config.fit)
        if not is_there:
            return decoded
        writer = PackWriter(self.pack_path, self._stored_px, self._config.fit)
        return SharedPixels(self.pack_path, decoded, writer)


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _masked(row: Row) -> Row:
    # A secret in a URI is in its query or before an "@"; a look for these is all that a million plain names cost.
    if not any(sign in text for text in (row.uri, row.reason, row.notes) for sign in "?@"):
        return row
    return replace(row, uri=masked(row.uri), reason=masked(row.reason), notes=masked(row.notes))
