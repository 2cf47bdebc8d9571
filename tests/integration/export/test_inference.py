"""Predicting and evaluating with nothing but the export."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image as Pillow

from job.errors import AccessError, DatasetError, InputMissingError
from job.evaluation import metrics
from job.export import card, inference
from job.export.inference import Classifier, Image


@pytest.fixture(scope="module")
def classifier(export_dir: Path) -> Classifier:
    return inference.load(export_dir)


def images(kit: Any, num: int = 6) -> list[Image]:
    files, _ = kit.pictures(num)
    return [Image(name, lambda data=data: data) for name, data in files]


def test_predictions_come_in_order_with_the_best_class_first(
    classifier: Classifier, model: keras.Model, kit: Any
) -> None:
    expected = kit.evaluated(model, kit.pictures(7)[1])
    found = list(inference.predict(classifier, images(kit, 7), top=2, batch=3, threads=2))
    assert [one.uri for one in found] == [image.uri for image in images(kit, 7)]
    for one, scores in zip(found, expected, strict=True):
        assert one.classes[0] == kit.classes[int(scores.argmax())]
        assert one.scores == pytest.approx(np.sort(scores)[::-1][:2], abs=1e-6)
        assert one.error == ""


def test_a_corrupt_image_costs_its_own_row_and_no_other(classifier: Classifier, kit: Any) -> None:
    good = images(kit)
    whole = good[0].read()
    bad = [
        Image("empty.jpg", lambda: b""),
        Image("text.jpg", lambda: b"<html>"),
        Image("half.jpg", lambda: whole[:200]),
    ]
    mixed = [bad[0], *good[:3], bad[1], bad[2], *good[3:]]
    alone = {one.uri: one for one in inference.predict(classifier, good)}
    found = list(inference.predict(classifier, mixed, batch=8))
    assert [one.uri for one in found] == [image.uri for image in mixed]
    assert {one.uri for one in found if one.error} == {"empty.jpg", "text.jpg", "half.jpg"}
    for one in found:
        if one.error:
            assert one.error.startswith("cannot be decoded: ")
            assert one.classes == ()
            assert "{{" not in one.error
        else:
            assert one.scores == pytest.approx(alone[one.uri].scores, abs=1e-6)


def test_an_image_that_cannot_be_read_costs_its_own_row(classifier: Classifier, kit: Any, tmp_path: Path) -> None:
    def denied() -> bytes:
        raise AccessError("No permission to read gs://b/x.jpg.")

    mixed = [Image("gone.jpg", (tmp_path / "gone.jpg").read_bytes), *images(kit, 2), Image("gs://b/x.jpg", denied)]
    found = list(inference.predict(classifier, mixed, batch=2))
    assert [bool(one.error) for one in found] == [True, False, False, True]
    assert "cannot be read: No permission" in found[3].error


def test_images_are_read_ahead_but_not_all_at_once(classifier: Classifier, kit: Any) -> None:
    taken = []
    source = images(kit, 1) * 50

    def counted() -> Any:
        for image in source:
            taken.append(image)
            yield image

    predictions = inference.predict(classifier, counted(), batch=4)
    next(predictions)
    assert 4 < len(taken) <= 16
    predictions.close()


def test_no_images_give_no_predictions(classifier: Classifier) -> None:
    assert list(inference.predict(classifier, [])) == []


def test_evaluating_the_export_gives_the_scores_of_the_model(
    classifier: Classifier, model: keras.Model, kit: Any
) -> None:
    _, pixels = kit.pictures(9)
    labels = np.array([0, 1, 2] * 3, np.int32)
    labelled = list(zip(images(kit, 9), [kit.classes[i] for i in labels], strict=True))
    labelled.insert(4, (Image("bad.jpg", lambda: b"x"), "blue"))
    found = inference.evaluate(classifier, labelled, top_k=2, resamples=50, batch=4)
    logits = np.asarray(model(pixels.astype(np.float32), training=False))
    expected = metrics.score(logits, labels, top_k=2, temperature=kit.temperature)
    assert found.scores.log_loss == pytest.approx(expected.log_loss, abs=1e-5)
    assert found.scores.confusion.tolist() == expected.confusion.tolist()
    assert found.scores.k == 2
    assert [one.uri for one in found.errors] == ["bad.jpg"]
    assert found.labels.tolist() == labels.tolist()
    assert found.intervals["accuracy"][0] <= found.scores.accuracy <= found.intervals["accuracy"][1]


def test_a_class_unknown_to_the_model_is_refused_before_reading(classifier: Classifier) -> None:
    def unread() -> bytes:
        raise AssertionError("was read")

    with pytest.raises(
        DatasetError, match=r"does not know: 'Green'; it knows 3: röd, green, blue\. Did you mean 'green'"
    ):
        inference.evaluate(classifier, [(Image("a.jpg", unread), "Green")])


def test_nothing_but_bad_images_cannot_be_evaluated(classifier: Classifier) -> None:
    with pytest.raises(DatasetError, match=r"None of the 1 images could be scored.*a\.jpg: cannot be decoded"):
        inference.evaluate(classifier, [(Image("a.jpg", lambda: b"x"), "green")])


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match=r"saved_model\.pb is missing"):
        inference.load(tmp_path)


def test_a_model_of_something_else_is_refused_with_its_signatures(tmp_path: Path) -> None:
    module = tf.Module()
    module.double = tf.function(lambda x: 2 * x, input_signature=[tf.TensorSpec([], tf.float32)], autograph=False)
    tf.saved_model.save(module, str(tmp_path), signatures={"double": module.double})
    with pytest.raises(
        InputMissingError, match=r"has the signatures \['double'\]; it lacks \['labels', 'serving_default'\]"
    ):
        inference.load(tmp_path)


def test_the_six_lines_of_the_model_card_run_as_printed(export_dir: Path, kit: Any, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Pillow.fromarray(kit.pictures(1)[1][0]).save(buffer, "PNG")
    (tmp_path / "photo.png").write_bytes(buffer.getvalue())
    code = card.snippet(str(export_dir), str(tmp_path / "photo.png"))
    assert len(code.splitlines()) == 6
    done = subprocess.run(
        [sys.executable, "-I", "-X", "utf8", "-c", code], capture_output=True, text=True, encoding="utf-8", check=True
    )
    name, probability = done.stdout.split()
    assert name == "röd"
    assert 0.4 < float(probability) < 1
