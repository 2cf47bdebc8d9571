"""The model card."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import yaml

from job.evaluation import metrics
from job.evaluation.report import DataSummary, RunFacts, RunReport, TestResult
from job.evaluation.winner import Candidate, choose
from job.export.card import model_card


@pytest.fixture
def report() -> RunReport:
    labels = np.array([0, 0, 0, 1, 1, 1], np.int32)
    logits = np.array([[2, 0], [1, 0], [3, 0], [0, 2], [1, 0], [0, 1]], np.float32)
    choice = choose([Candidate("probe", logits, 0)], labels, resamples=100, seed=0)
    return RunReport(
        run=RunFacts("flowers: v1", "gs://b/runs/1", "gs://b/data", 7, {}),
        data=DataSummary(("daisy", "iris"), {"train": [5, 6], "test": [3, 3]}, num_images=18, num_bad=1),
        recipe=[],
        choice=choice,
        test=TestResult(
            metrics.score(logits, labels),
            metrics.confidence_intervals(logits, labels, resamples=100, seed=0),
            choice.temperature,
            0.1,
            0.4,
        ),
        mistakes=(),
        stages=(),
        proof={"num_examples": 4, "bytes_difference": 1.2e-7},
        export_uri="gs://b/runs/1/export/1",
    )


def test_the_front_matter_is_yaml_with_the_test_metrics(report: RunReport) -> None:
    card = model_card(report, backbone="mobilenet_v2", geometry_text="squashed to 160 x 160 pixels")
    _, front, body = card.split("---\n", 2)
    matter = yaml.safe_load(front)
    assert matter["pipeline_tag"] == "image-classification"
    (result,) = matter["model-index"][0]["results"]
    assert result["metrics"][0] == {"type": "accuracy", "value": 0.8333}
    assert "11 train, 6 test images used, 1 not used" in body
    assert "iris (0.67 of 3)" in body
    assert "largest difference 1.2e-07" in body
    assert "squashed to 160 x 160 pixels" in body


def test_a_model_without_test_images_claims_no_results(report: RunReport) -> None:
    bare = dataclasses.replace(report, test=None, proof=None)
    card = model_card(bare, backbone="mobilenet_v2", geometry_text="squashed")
    assert "model-index" not in card
    assert "No test images were set aside" in card
    assert "was not proven" in card


def test_the_card_and_the_report_need_no_tensorflow() -> None:
    code = "import job.export.card, job.evaluation.pages, sys; print('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
