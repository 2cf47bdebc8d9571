"""report.json, report.md, index.html and the pictures in it."""

from __future__ import annotations

import base64
import dataclasses
import html
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from job.evaluation import markup, metrics, mistakes, pages, plots
from job.evaluation.calibration import reliability
from job.evaluation.report import BadImage, DataSummary, RunFacts, RunReport, Stage, TestResult, to_json
from job.evaluation.winner import Candidate, choose

CLASSES = ("cat", "dog <big>", "a|b_c")


def logits_and_labels(num_images: int = 90) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, num_images).astype(np.int32)
    logits = rng.normal(0, 1, (num_images, 3)).astype(np.float32)
    logits[np.arange(num_images), labels] += 2
    return logits, labels


@pytest.fixture
def report() -> RunReport:
    logits, labels = logits_and_labels()
    noisy = logits + np.random.default_rng(1).normal(0, 1, logits.shape).astype(np.float32)
    choice = choose([Candidate("probe", noisy, 0), Candidate("head", logits, 1)], labels, resamples=100, seed=0)
    uris = [f"test/{i}*.jpg" for i in range(90)]
    return RunReport(
        run=RunFacts("flowers", "gs://b/runs/1", "gs://b/data", 7, {"tensorflow": "2.21.0"}, "CPU"),
        data=DataSummary(
            CLASSES,
            {"train": [5, 6, 7], "test": np.array([1, 2, 3])},
            num_images=26,
            num_bad=2,
            bad_by_verdict={"corrupt": 2},
            bad=[BadImage("train/x_<y>.jpg", "corrupt", "cannot be decoded")],
            num_duplicates=1,
            notes=["3 images rotated by EXIF"],
        ),
        recipe=["backbone mobilenet_v2", "probe: L-BFGS"],
        choice=choice,
        test=TestResult(
            metrics.score(logits, labels, temperature=choice.temperature),
            metrics.confidence_intervals(logits, labels, resamples=100, seed=0),
            choice.temperature,
            ece_before=0.08,
            log_loss_before=0.5,
        ),
        mistakes=mistakes.worst(logits, labels, uris, CLASSES, limit=3),
        stages=[Stage("pull", 2.0), Stage("probe", 4.0, 1000)],
        proof={"num_examples": 4, "pixels_difference": 0.0},
        export_uri="gs://b/runs/1/export/1",
        required_accuracy=0.1,
    )


def test_report_json_holds_plain_values_only(report: RunReport) -> None:
    plain = json.loads(json.dumps(to_json(report), allow_nan=False))
    assert plain["schema"] == 1
    assert plain["accepted"] is True
    assert plain["winner"]["name"] == "head"
    assert plain["data"]["counts"] == {"train": [5, 6, 7], "test": [1, 2, 3]}
    assert plain["stages"][1] == {"name": "probe", "seconds": 4.0, "num_images": 1000, "images_per_second": 250.0}
    assert plain["stages"][0]["images_per_second"] is None
    assert plain["test"]["scores"]["num_images"] == 90
    assert len(plain["mistakes"]) == 3


def test_accuracy_below_the_requirement_is_not_accepted_and_said(report: RunReport) -> None:
    low = dataclasses.replace(report, required_accuracy=0.9999)
    assert to_json(low)["accepted"] is False
    assert "is BELOW the required 0.9999" in pages.markdown(low)


def test_a_requirement_without_a_test_split_is_not_met(report: RunReport) -> None:
    assert not dataclasses.replace(report, test=None).is_accepted
    assert dataclasses.replace(report, test=None, required_accuracy=None).is_accepted


def test_markdown_says_winner_timings_and_what_was_not_used(report: RunReport) -> None:
    text = pages.markdown(report)
    assert report.choice.reason.split(":")[0] in text
    assert "| probe | 4.0 | 250 |" in text
    assert r"| train/x\_\<y\>.jpg | corrupt | cannot be decoded |" in text
    assert "2 corrupt. The first 1:" in text
    assert "gs://b/runs/1/export/1" in text


def test_names_cannot_break_a_markdown_table(report: RunReport) -> None:
    text = pages.markdown(report)
    assert text.count(r"| a\|b\_c |") >= 2
    assert "a|b" not in text


def test_the_page_is_one_well_formed_file_with_its_pictures(report: RunReport) -> None:
    logits, labels = logits_and_labels()
    pictures = {"reliability": plots.reliability_diagram(reliability(logits, labels), reliability(logits, labels))}
    page = pages.html(report, pictures)
    opened: list[str] = []

    class Checker(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag not in ("meta", "img"):
                opened.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert opened.pop() == tag

    Checker().feed(page)
    assert opened == []
    assert "dog &lt;big&gt;" in page
    assert "dog <big>" not in page
    (data,) = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    found = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    assert np.array_equal(found, pictures["reliability"])


def test_the_page_writes_the_confusion_matrix_as_text(report: RunReport) -> None:
    assert report.test is not None
    confusion = report.test.scores.confusion
    page = pages.html(report, {})
    for true, name in enumerate(CLASSES):
        for guess, other in enumerate(CLASSES):
            what = f"{html.escape(name)} → {html.escape(other)}: {confusion[true, guess]} of {confusion[true].sum()}"
            assert (f'title="{what}">{confusion[true, guess]}</td>' in page) == (confusion[true, guess] > 0)
    assert (confusion > 0).sum() > len(CLASSES)


def test_a_thousand_classes_leave_a_page_that_can_be_read() -> None:
    confusion = np.eye(1000, dtype=np.int64) * 5
    confusion[990, 3] = 4
    names = [f"class {i}" for i in range(1000)]
    text = markup.confusion_matrix(confusion, names)
    assert "30 of 1000 classes" in text
    assert 'title="class 990 → class 3: 4 of 9">4</td>' in text
    rows = [("class", "images"), *((name, "20") for name in names)]
    assert markup.table(rows, max_open_rows=1000).startswith("<div")
    folded = markup.table(rows, max_open_rows=999)
    assert folded.startswith("<details><summary>1000 rows")
    assert "<td>class 999</td><td class=n>20</td>" in folded


def test_the_page_is_legible_in_the_dark(report: RunReport) -> None:
    page = pages.html(report, {})
    dark = page[page.index("prefers-color-scheme: dark") :].split("}", 1)[0]
    assert {"--ink", "--paper", "--line"} <= set(re.findall("--[a-z]+", dark))
    colours = page[page.index("<style>") : page.index("body {")]
    rest = page[page.index("body {") : page.index("</style>")]
    assert "#" in colours
    assert "#" not in rest  # every colour has its counterpart


def test_a_report_without_a_test_split_can_be_read(report: RunReport) -> None:
    bare = dataclasses.replace(report, test=None, mistakes=(), proof=None, required_accuracy=None)
    assert "Not exported." in pages.markdown(bare)
    assert json.loads(json.dumps(to_json(bare)))["test"] is None


def test_the_worst_mistake_comes_first_and_right_answers_never() -> None:
    logits = np.array([[3, 0, 0], [5, 0, 0], [0, 1, 0], [9, 0, 0]], np.float32)
    labels = np.array([1, 1, 0, 0], np.int32)
    found = mistakes.worst(logits, labels, ["a.jpg", "x/b.jpg", "c.jpg", "d.jpg"], CLASSES, limit=9)
    assert [one.uri for one in found] == ["x/b.jpg", "a.jpg", "c.jpg"]
    assert found[0].caption() == ("b.jpg", "dog <big> → cat 99%")
    assert (found[0].true, found[0].predicted, found[0].index) == ("dog <big>", "cat", 1)


def test_the_confusion_picture_colours_right_blue_and_wrong_red() -> None:
    picture = plots.confusion_matrix(np.array([[9, 0], [5, 4]]), ["a", "b"]).astype(int)
    assert picture.dtype == int
    cell = plots._CELL_PX
    left_bottom = picture[-plots._MARGIN_PX - cell + 3, :, :]
    red = (left_bottom[:, 0] - left_bottom[:, 2] > 60).sum()
    blue = (left_bottom[:, 2] - left_bottom[:, 0] > 60).sum()
    assert abs(red - cell) <= 3
    assert abs(blue - cell) <= 3


def test_with_many_classes_the_most_confused_are_drawn() -> None:
    confusion = np.eye(300, dtype=np.int64) * 5
    confusion[250, 3] = 4
    few = plots.confusion_matrix(confusion, [f"class {i}" for i in range(300)], max_classes=2)
    all_of_two = plots.confusion_matrix(confusion[np.ix_([3, 250], [3, 250])], ["class 3", "class 250"])
    assert few.shape[0] == all_of_two.shape[0]
    assert few.dtype == np.uint8


def test_the_classes_shown_are_pairs_taken_for_each_other() -> None:
    confusion = np.zeros((9, 9), np.int64)
    confusion[7, 1], confusion[4, 6] = 5, 3
    confusion[2, [0, 3, 5, 6, 8]] = 2  # many mistakes, no one class mistaken for
    assert plots.most_confused(confusion, 4) == [1, 4, 6, 7]
    assert plots.most_confused(confusion, 9) == list(range(9))


def test_letters_that_the_font_lacks_lose_their_accent_only() -> None:
    plain, accented = (plots.contact_sheet([np.zeros((9, 9, 3), np.uint8)], [[text]]) for text in ("> Lowe", "→ Löwé"))
    assert np.array_equal(plain, accented)
    other = plots.contact_sheet([np.zeros((9, 9, 3), np.uint8)], [["> Lawe"]])
    assert not np.array_equal(plain, other)


def test_a_long_caption_goes_on_below() -> None:
    image = np.zeros((160, 160, 3), np.uint8)
    one, two = (plots.contact_sheet([image], [[text]]) for text in ("iris → lily 88%", "dandelion → colts-foot 88%"))
    assert two.shape[0] > one.shape[0]


def test_the_contact_sheet_holds_every_picture() -> None:
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    images = [np.full((20 + 10 * i, 30, 3), colour, np.uint8) for i, colour in enumerate(colours)]
    sheet = plots.contact_sheet(images, [("a very long file name that must be cut.jpg", "x → y 90%")] * 3, columns=2)
    for colour in colours:
        assert (sheet == np.array(colour, np.uint8)).all(axis=2).sum() > 5000


def test_the_reliability_diagram_is_a_picture() -> None:
    logits, labels = logits_and_labels()
    picture = plots.reliability_diagram(reliability(logits * 5, labels), reliability(logits, labels))
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    assert (picture == np.array(plots._BLUE, np.uint8)).all(axis=2).any()
