"""The report for people: `report.md`, and `report/index.html` with its pictures inside the one file.

Both are the same sections, rendered twice, so they cannot disagree.
"""

from __future__ import annotations

import base64
import html as escape
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from job.evaluation import markup
from job.evaluation.metrics import Gain
from job.evaluation.plots import Picture, png
from job.evaluation.report import RunReport, TestResult

# Tables of per-class results end here; report.json has them all.
_MAX_ROWS = 200

# The page folds longer tables away: with a thousand classes what follows would not be found.
_MAX_OPEN_ROWS = 40


_CLASSES = "Classes"


@dataclass(frozen=True, slots=True)
class Section:
    """One heading with its content: paragraphs, then a table (first row: heads), then pictures by name."""

    title: str
    paragraphs: Sequence[str] = ()
    table: Sequence[Sequence[str]] = ()
    pictures: Sequence[str] = ()


def summary(content: Mapping[str, Any]) -> str:
    """Returns the end of a run in a few lines, from the content of its `report.json`."""
    test = content["test"]
    score = f"test accuracy {test['scores']['accuracy']:.4f}" if test else "no test images"
    output_uri = content["run"]["output_uri"]
    return (
        f"Done: the {content['winner']['name']} model, {score}.\n"
        f"  model   {content['export_uri']}\n"
        f"  report  {output_uri}/report.md, {output_uri}/report/index.html\n"
        f"  curves  tensorboard --logdir {output_uri}/logs"
    )


def markdown(report: RunReport) -> str:
    """Returns `report.md`."""
    lines = [f"# {_md(_title(report))}", ""]
    for section in sections(report):
        lines += [f"## {section.title}", ""]
        for paragraph in section.paragraphs:
            lines += [_md(paragraph), ""]
        if section.table:
            head, *rows = section.table
            lines += [_md_row(head), "|" + " --- |" * len(head), *map(_md_row, rows), ""]
    return "\n".join(lines)


def html(report: RunReport, pictures: Mapping[str, Picture]) -> str:
    """Returns `report/index.html`: one file, nothing loaded from elsewhere, readable without a server.

    Args:
        pictures: uint8 [H, W, 3] by name: "reliability", "mistakes"; those missing are left out. The confusion matrix
            is text, in the reader's fonts.
    """
    title = escape.escape(_title(report))
    body = [f"<h1>{title}</h1>"]
    for section in sections(report):
        body.append(f"<h2>{escape.escape(section.title)}</h2>")
        body += [f"<p>{escape.escape(paragraph)}</p>" for paragraph in section.paragraphs]
        if section.table:
            body.append(markup.table(section.table, max_open_rows=_MAX_OPEN_ROWS))
        if section.title == _CLASSES and report.test is not None:
            body.append(markup.confusion_matrix(report.test.scores.confusion, report.data.classes))
        for name in section.pictures:
            if name in pictures:
                data = base64.b64encode(png(pictures[name])).decode("ascii")
                body.append(f'<img alt="{escape.escape(name)}" src="data:image/png;base64,{data}">')
    return markup.page(title, "\n".join(body))


def sections(report: RunReport) -> list[Section]:
    """Returns the report's content in reading order."""
    choice = report.choice
    found = [
        Section(
            "Winner",
            [choice.reason],
            [
                ("candidate", "validation log loss", "validation accuracy", "temperature"),
                *(
                    (one.name, f"{one.log_loss:.4f}", f"{one.accuracy:.4f}", f"{one.temperature:.3f}")
                    for one in choice.standings
                ),
            ],
        )
    ]
    if choice.steps:
        rows = [
            (f"{one.name} over {one.over}", _gain(one.gains.log_loss), _gain(one.gains.accuracy))
            for one in choice.steps
        ]
        text = "Gain of each step, above 0 is better; in brackets the 95 % interval of a paired bootstrap."
        found.append(Section("Gains", [text], [("step", "log loss", "accuracy"), *rows]))
    if report.test is not None:
        found += _test_sections(report, report.test)
    return [*found, *_data_sections(report), *_run_sections(report)]


def _test_sections(report: RunReport, test: TestResult) -> list[Section]:
    scores = test.scores
    named = {
        "accuracy": ("accuracy", scores.accuracy),
        "top_k_accuracy": (f"top-{scores.k} accuracy", scores.top_k_accuracy),
        "log_loss": ("log loss", scores.log_loss),
        "macro_f1": ("macro F1", scores.macro_f1),
    }
    rows = [
        (label, f"{value:.4f}", _interval(test.intervals[key]) if key in test.intervals else "")
        for key, (label, value) in named.items()
    ]
    rows.append(("expected calibration error", f"{scores.ece:.4f}", ""))
    paragraphs = [
        f"{scores.num_images} images that were used for nothing else.",
        f"Temperature {test.temperature:.3f}, fitted on validation: calibration error {test.ece_before:.4f} → "
        f"{scores.ece:.4f}, log loss {test.log_loss_before:.4f} → {scores.log_loss:.4f}.",
    ]
    if report.required_accuracy is not None:
        verb = "reaches" if report.is_accepted else "is BELOW"
        paragraphs.append(f"Accuracy {verb} the required {report.required_accuracy:.4f}.")
    classes = [
        (name, f"{one.precision:.3f}", f"{one.recall:.3f}", f"{one.f1:.3f}", str(one.support))
        for name, one in zip(report.data.classes, scores.per_class, strict=True)
    ]
    classes.sort(key=lambda row: float(row[3]))
    mistakes = [
        (one.uri, one.true, one.predicted, f"{one.probability:.3f}", f"{one.true_probability:.3f}")
        for one in report.mistakes
    ]
    found = [
        Section("Test", paragraphs, [("metric", "value", "95 % interval"), *rows], ["reliability"]),
        Section(
            _CLASSES,
            ["The weakest first." if len(classes) <= _MAX_ROWS else f"The {_MAX_ROWS} weakest of {len(classes)}."],
            [("class", "precision", "recall", "F1", "images"), *classes[:_MAX_ROWS]],
        ),
    ]
    if mistakes:
        head = ("image", "label", "predicted", "its probability", "the label's")
        found.append(Section("Worst mistakes", ["Look here for wrong labels."], [head, *mistakes], ["mistakes"]))
    return found


def _data_sections(report: RunReport) -> list[Section]:
    data = report.data
    paragraphs = [
        f"{data.num_images} images in {len(data.classes)} classes at {report.run.data_uri}; "
        f"{data.num_bad} not used, {data.num_duplicates} exact duplicates.",
        *(note[:1].upper() + note[1:] for note in data.notes),
    ]
    if len(data.classes) > _MAX_ROWS:
        paragraphs.append(f"The first {_MAX_ROWS} classes; report.json has all.")
    splits = list(data.counts)
    rows = [(name, *(str(data.counts[split][i]) for split in splits)) for i, name in enumerate(data.classes)]
    found = [Section("Data", paragraphs, [("class", *splits), *rows[:_MAX_ROWS]])]
    if data.num_bad:
        verdicts = ", ".join(f"{n} {verdict}" for verdict, n in data.bad_by_verdict.items())
        text = f"{verdicts}." if len(data.bad) == data.num_bad else f"{verdicts}. The first {len(data.bad)}:"
        bad = [(one.uri, one.verdict, one.reason) for one in data.bad]
        found.append(Section("Images not used", [text], [("image", "verdict", "reason"), *bad]))
    return found


def _run_sections(report: RunReport) -> list[Section]:
    run = report.run
    timings = [
        (one.name, f"{one.seconds:.1f}", "" if one.images_per_second is None else f"{one.images_per_second:.0f}")
        for one in report.stages
    ]
    total = sum(one.seconds for one in report.stages)
    proof = "Not exported."
    if report.proof is not None:
        facts = ", ".join(
            f"{key.replace('_', ' ')} {value:.3g}" if isinstance(value, float) else f"{key.replace('_', ' ')} {value}"
            for key, value in report.proof.items()
            if not isinstance(value, dict)
        )
        proof = f"{report.export_uri}: loaded by a fresh process without this package; it gave the same: {facts}."
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    return [
        Section("Export", [proof]),
        Section("Time", [f"{total:.1f} s in all."], [("stage", "seconds", "images/s"), *timings]),
        Section("Recipe", list(report.recipe)),
        Section("Run", [f"Output {run.output_uri}. Seed {run.seed}. {run.devices}".strip(), versions]),
    ]


def _title(report: RunReport) -> str:
    if report.test is None:
        return f"{report.run.name}: {report.choice.name}"
    return f"{report.run.name}: {report.choice.name}, test accuracy {report.test.scores.accuracy:.4f}"


def _gain(gain: Gain) -> str:
    return f"{gain.mean:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]" + (" within noise" if gain.within_noise else "")


def _interval(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.4f} to {interval[1]:.4f}"


def _md(text: str) -> str:
    """Returns text that Markdown shows as it is: names of files and classes may hold any character."""
    return re.sub(r"([\\`*_<>|#\[\]])", r"\\\1", " ".join(text.split()))


def _md_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(_md, cells)) + " |"
