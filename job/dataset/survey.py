"""Every image decoded once, in parallel: what is unusable and why, what was repaired, what is there twice.

The same pass packs the pixels, so that nothing is decoded a second time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from job.dataset import duplicates
from job.dataset.examine import Examiner, Finding
from job.dataset.example import Example, Row, Verdict
from job.dataset.reading import Reader
from job.dataset.workers import OnFound, examine
from job.errors import DatasetError

MIN_IMAGES_PER_CLASS = 2
"""One to train on and one to measure with."""


def look(
    examples: Sequence[Example],
    examiner: Examiner,
    *,
    part: range | None = None,
    known: Mapping[int, Finding] | None = None,
    on_found: OnFound | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[int, Finding]:
    """Returns index → finding of the examples, and packs their pixels where the examiner has a writer.

    Args:
        part: Their places, where not all are to be examined.
        known: Index → finding of what was examined before, and is not examined again.
        on_found: Takes (index, finding) of images that were examined, pixels included.
        on_progress: Takes images done and in all; what it raises ends the survey.
    """
    part = range(len(examples)) if part is None else part
    findings = {index: finding for index, finding in (known or {}).items() if index in part}

    def tell() -> None:
        if on_progress:
            on_progress(len(findings), len(part))

    def keep(found: list[tuple[int, Finding]]) -> None:
        findings.update(found)
        if on_found:
            on_found(found)
        tell()

    tell()
    examine(examiner, [(index, examples[index].uri) for index in part if index not in findings], keep)
    return findings


def rows_of(
    examples: Sequence[Example],
    findings: Mapping[int, Finding],
    reader: Reader,
    *,
    near_duplicates: bool = True,
    on_look: Callable[[], None] = lambda: None,
) -> list[Row]:
    """Returns a row an example, in order, copies noted.

    Args:
        reader: Gives the bytes of images that may be near-duplicates.
        near_duplicates: Whether to look for images that are not equal but show the same.
        on_look: Called now and then; what it raises ends the search.
    """
    found = [_row(index, example, findings[index]) for index, example in enumerate(examples)]
    hashes = {one.sha256: one.perceptual_hash for one in findings.values()} if near_duplicates else {}
    return duplicates.grouped(found, hashes, reader, on_look=on_look)


def check_classes(examples: Iterable[Example | Row]) -> None:
    """Checks, before anything expensive, that there are classes to tell apart.

    Raises:
        DatasetError: With one class, or a class of fewer than 2 images. Names it.
    """
    counts = Counter(example.label for example in examples)
    if len(counts) < 2:
        raise DatasetError(
            f"The dataset has one class, {next(iter(counts), '')!r}; a classifier needs at least 2.",
            next_step="Add images of another class, or check that data.uri is the folder above the class folders.",
        )
    small = sorted(label for label, count in counts.items() if count < MIN_IMAGES_PER_CLASS)
    if small:
        raise DatasetError(
            f"The class {small[0]!r} has 1 image; every class needs at least {MIN_IMAGES_PER_CLASS}"
            + (f". So do {len(small) - 1} more: {_some(small[1:])}." if len(small) > 1 else "."),
            next_step="Add images to the class, or remove it.",
        )


def check_usable(rows: Sequence[Row], *, max_bad: float, survey_csv: str) -> None:
    """Checks that few enough images are unusable and that every class has enough usable ones.

    Args:
        max_bad: Largest share of the images that may be unusable, 0..1.
        survey_csv: Where all verdicts can be read, for the message.

    Raises:
        DatasetError: With the counts by verdict and the first files.
    """
    bad = [row for row in rows if row.verdict is not Verdict.OK]
    listed = "\n".join(f"  {row.uri}: {row.verdict}, {row.reason}" for row in bad[:5])
    if len(bad) > max_bad * len(rows):
        counts = ", ".join(f"{count} {verdict}" for verdict, count in Counter(row.verdict for row in bad).most_common())
        raise DatasetError(
            f"{len(bad)} of {len(rows)} images ({len(bad) / len(rows):.1%}) are unusable; data.max_bad allows "
            f"{max_bad:.1%}. {counts}. The first:\n{listed}",
            next_step=f"Repair or remove them (all are listed in {survey_csv}), or raise data.max_bad.",
        )
    usable = Counter(row.label for row in rows if row.verdict is Verdict.OK)
    poor = sorted({row.label for row in bad if usable[row.label] < MIN_IMAGES_PER_CLASS})
    if poor:
        first = next(row for row in bad if row.label == poor[0])
        raise DatasetError(
            f"The class {poor[0]!r} has {usable[poor[0]]} usable image(s); every class needs at least "
            f"{MIN_IMAGES_PER_CLASS}. Unusable is, for example, {first.uri}: {first.verdict}, {first.reason}.",
            next_step=f"Repair or add images of {_some(poor)}, or remove the class. All verdicts: {survey_csv}.",
        )


def _row(index: int, example: Example, finding: Finding) -> Row:
    return Row(
        index=index,
        uri=example.uri,
        label=example.label,
        split=example.split,
        verdict=finding.verdict,
        reason=finding.reason,
        notes=finding.notes,
        sha256=finding.sha256,
        width_px=finding.width_px,
        height_px=finding.height_px,
        size_bytes=finding.size_bytes,
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
