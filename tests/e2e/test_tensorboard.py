"""TensorBoard in a real browser, on a finished and on a running job in one bucket.

It is started with the arguments of the Deployment in k8s/tensorboard.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect, sync_playwright

from job.demo import images
from job.demo.object_store import ObjectStore
from job.storage import at, transfer
from tests import deployed_tensorboard
from tests.e2e.tiny import REPOSITORY, command, train_arguments

MAX_LOOKS = 300
PATIENCE_MS = 120_000
"""Until something is on a page: the machine may be busy."""

CHANGES = (
    "data.image_px=96",
    "telemetry.every_steps=1",
    "telemetry.mirror_every_s=1",
    "telemetry.profile_steps=[2, 4]",
)
ENDLESS = ("train.finetune.epochs=100000", "train.finetune.patience=100000")


@dataclass(frozen=True)
class Board:
    """The address of TensorBoard, and the two runs that it shows."""

    address: str
    report: dict[str, Any]
    running: subprocess.Popen[str]


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    folder = tmp_path_factory.mktemp("board")
    images.write_dataset(folder / "parts", per_class=12, seed=0)

    def started(name: str, *changes: str) -> subprocess.Popen[str]:
        arguments = train_arguments("gs://photos/parts", f"gs://runs/{name}", folder / name, *CHANGES, *changes)
        return subprocess.Popen(command(*arguments), cwd=REPOSITORY, stdout=subprocess.DEVNULL, text=True)

    with ObjectStore() as store, pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", store.url)
        for bucket in ("photos", "runs"):
            store.make_bucket(bucket)
        transfer.push(folder / "parts", at("gs://photos/parts"))
        with started("finished") as finished, started("running", *ENDLESS) as running:
            try:
                assert finished.wait() == 0
                report = json.loads(at("gs://runs/finished").read("report.json"))
                with deployed_tensorboard.started("gs://runs") as address:
                    yield Board(address, report, running)
                running.terminate()
                assert running.wait() == 143
            finally:
                finished.kill()
                running.kill()


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    chromium = shutil.which("chromium")
    if chromium is None:
        reason = "Chromium is not installed: scripts/setup-chromium"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    # Chromium refuses to be root inside its sandbox.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=chromium, args=arguments) as browser,
    ):
        page = browser.new_page(viewport={"width": 3200, "height": 1600})
        page.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        # The same wherever the tests run: nothing but this machine is reached.
        page.route(lambda url: not url.startswith("http://127.0.0.1:"), lambda route: route.abort())
        yield page


@pytest.fixture
def opened(page: Page, board: Board) -> Callable[[str], Page]:
    def open_tab(tab: str) -> Page:
        # From another document, or Chromium only scrolls to the fragment.
        page.goto("about:blank")
        page.goto(f"{board.address}/#{tab}")
        return page

    return open_tab


def _curve(page: Page, tag: str) -> Locator:
    page.get_by_role("combobox", name="Filter tags").fill(f"^{tag}$")
    card = page.locator("card-view").filter(has_text="Smoothed").filter(has_text=re.compile(tag.replace("/", r"\s*/")))
    card.first.wait_for()
    return card.first


def _last_points(card: Locator) -> dict[str, tuple[float, int]]:
    """Returns run -> (value, step) of a curve's table."""
    found = re.findall(r"(\S+)/logs\s+(\S+)\s+(\S+)\s+([\d,]+)", card.inner_text())
    return {run: (float(value), int(step.replace(",", ""))) for run, _, value, step in found}


def test_scalars_of_a_finished_and_of_a_running_job(board: Board, opened: Callable[[str], Page]) -> None:
    accuracy = _last_points(_curve(opened("timeseries"), "test/accuracy"))
    shown, _ = accuracy.pop("finished")
    assert shown == pytest.approx(board.report["test"]["scores"]["accuracy"], abs=1e-4)
    assert not accuracy, "the running job has none yet"

    def steps() -> dict[str, int]:
        found = _last_points(_curve(opened("timeseries"), "finetune/loss"))
        return {run: step for run, (_, step) in found.items()}

    def first_with_more(than: int) -> dict[str, int]:
        for _ in range(MAX_LOOKS):
            assert board.running.poll() is None
            if (found := steps()).get("running", 0) > than:
                return found
        raise AssertionError(f"after {MAX_LOOKS} looks at the page: {found}")

    before = first_with_more(0)
    after = first_with_more(before["running"])
    assert after["finished"] == before["finished"]


def test_images_and_the_confusion_matrix(board: Board, opened: Callable[[str], Page]) -> None:
    page = opened("images")
    page.get_by_text("tag: augmented").first.wait_for()
    # The group of the test set is closed at first.
    page.locator("tf-category-paginated-view").get_by_text("test", exact=True).first.click()
    confusion = page.locator("tf-image-loader").filter(has_text="tag: test/confusion")
    # One alone: the running job has measured nothing yet.
    expect(confusion).to_have_count(1)
    expect(confusion).to_contain_text("finished/logs")
    expect(confusion.locator("img")).to_have_js_property("complete", True)
    # Large enough to read five names and 25 numbers; a picture that could not be loaded has no size.
    assert confusion.locator("img").evaluate("image => image.naturalWidth") > 200
    for run in ("finished/logs", "running/logs"):
        augmented = page.locator("tf-image-loader").filter(has_text="tag: augmented").filter(has_text=run)
        expect(augmented.first.locator("img")).to_have_js_property("naturalWidth", 96)


def test_hparams_has_the_settings_and_the_scores_of_the_finished_job(
    board: Board, opened: Callable[[str], Page]
) -> None:
    page = opened("hparams")
    page.get_by_text("mobilenet_025").first.wait_for()
    # One row: the running job has no scores to compare by.
    cells = page.locator("tf-hparams-table-view").locator("vaadin-grid").inner_text().split()
    assert cells.count("mobilenet_025") == 1
    backbone, batch, dropout, rate, *rest = cells[cells.index("mobilenet_025") :]
    assert (backbone, float(batch), float(dropout), float(rate)) == ("mobilenet_025", 8, 0.2, 1e-4)
    scores = board.report["test"]["scores"]
    accuracy, top_5, log_loss, macro_f1, _ = (float(each) for each in rest[-5:])
    assert accuracy == pytest.approx(scores["accuracy"], rel=1e-4)
    assert top_5 == 1.0, "of five classes"
    assert log_loss == pytest.approx(scores["log_loss"], rel=1e-4)
    assert macro_f1 == pytest.approx(scores["macro_f1"], rel=1e-4)


def test_the_profile_has_the_steps_that_were_recorded_of_both(opened: Callable[[str], Page]) -> None:
    frame = opened("profile").frame_locator("iframe")
    frame.get_by_text("Host Compute Time").wait_for()
    text = frame.locator("body").inner_text()
    assert "Sessions (2)" in text
    # Without the marks of the steps the page warns, and every time on it is 0.0 ms.
    assert "No step marker observed" not in text
    (spent,) = re.findall(r"Host Compute Time\s+\(.*?\)\s+([\d.]+) ms", text)
    assert float(spent) > 0
