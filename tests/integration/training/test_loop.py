"""The loop: best moments, patience, checkpoints by steps and by time, stops, divergence."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from job.config import CheckpointConfig, TelemetryConfig
from job.console import console
from job.errors import DivergedError, StoppedError
from job.evaluation import metrics
from job.interruption import Stop
from job.storage import at
from job.timings import Timings
from job.training.checkpoint import MARKER, Checkpoints
from job.training.loop import Loop, Task
from job.training.progress import Progress
from job.training.telemetry import Telemetry
from tests.integration.training import tiny


def make_task(*, poison: int | None = None, batch: int = 8, seed: int = 0, at_once: int = 1, **numbers: Any) -> Task:
    features, labels = tiny.data(poison=poison)
    phase = tiny.phase(**numbers)
    net = tiny.net(dropout=0.3, seed=seed)
    step, optimizer = tiny.train_step(net, phase, at_once=at_once)
    clean = tiny.data()[0]
    return Task(
        phase=phase,
        net=net,
        optimizer=optimizer,
        variables=[variable for group in tiny.groups(net) for variable in group],
        train_step=step,
        feed=tiny.feed(features, labels, batch=batch),
        snapshot=lambda: dict(enumerate(tiny.values(net))),
        val_logits=lambda: net(clean, training=False).numpy(),
        val_labels=labels,
        val_loss=lambda logits, known: float(np.mean(np.square(logits - np.eye(tiny.K)[known]))),
        names=lambda indices: [f"image-{index}.jpg" for index in indices],
    )


def run(
    task: Task,
    folder: Path,
    *,
    progress: Progress | None = None,
    stop: Stop | None = None,
    clock: Callable[[], float] | None = None,
    **config: Any,
) -> Progress:
    progress = progress or Progress()
    stop = stop or Stop(grace_s=1000)
    settings = CheckpointConfig(**{"every_steps": 1000, "keep": 100, **config})
    timing = {"clock": clock} if clock else {}
    with (
        Telemetry(folder / "logs", TelemetryConfig(every_steps=2)) as telemetry,
        Checkpoints(folder / "run", at(str(folder / "out")), keep=settings.keep, writes=True, on_error=print) as saved,
        console(io.StringIO()).bar("head", unit="images") as bar,
    ):
        Loop(saved, telemetry, stop, settings, Timings(), **timing).run(task, progress, None, bar)
    return progress


def scripted(losses: Sequence[float]) -> Callable[[np.ndarray, np.ndarray], float]:
    left = iter(losses)
    return lambda logits, labels: next(left)


def saved_names(folder: Path) -> list[str]:
    return sorted(path.parent.name for path in (folder / "run" / "checkpoints").glob(f"*/{MARKER}"))


def test_a_phase_trains_to_its_end_and_keeps_its_best_moment(tmp_path: Path) -> None:
    task = make_task()
    progress = run(replace(task, val_loss=scripted([3.0, 2.0, 1.0, 4.0])), tmp_path)
    assert (progress.phase, progress.total_steps, progress.num_steps) == ("", 12, {"head": 12})
    (best,) = progress.finished
    assert best.step == 8
    assert any((value != now).any() for value, now in zip(best.weights.values(), tiny.values(task.net), strict=True))
    assert saved_names(tmp_path) == ["00000012-1-0"]


def test_where_training_only_harms_the_start_is_the_best(tmp_path: Path) -> None:
    task = make_task()
    before = tiny.values(task.net)
    (best,) = run(replace(task, val_loss=scripted([1.0, 2.0, 3.0, 4.0])), tmp_path).finished
    assert best.step == 0
    for position, value in best.weights.items():
        np.testing.assert_array_equal(value, before[position])


def test_patience_ends_a_phase(tmp_path: Path) -> None:
    task = make_task(num_steps=1000, patience_steps=8)
    progress = run(replace(task, val_loss=scripted([3.0, 2.0, 2.5, 2.5, 2.5])), tmp_path)
    assert progress.num_steps == {"head": 12}
    assert progress.finished[0].step == 4


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    losses: list[float] = []
    task = make_task(num_steps=60, eval_steps=20)

    def val_loss(logits: np.ndarray, labels: np.ndarray) -> float:
        losses.append(float(metrics.losses(logits, labels).mean()))
        return losses[-1]

    run(replace(task, val_loss=val_loss), tmp_path)
    assert losses[-1] < 0.9 * losses[0]


def test_checkpoints_come_by_steps(tmp_path: Path) -> None:
    run(make_task(), tmp_path, every_steps=5)
    assert saved_names(tmp_path) == ["00000005-0-0", "00000010-0-0", "00000012-1-0"]


def test_checkpoints_come_by_time(tmp_path: Path) -> None:
    ticks = iter(range(10_000))
    run(make_task(), tmp_path, clock=lambda: float(next(ticks)), every_steps=None, every_s=10.0)
    # Some fall together while one is being written.
    first, *_, last = saved_names(tmp_path)
    assert first < "00000012" < last
    run(make_task(), tmp_path / "slow", clock=lambda: 0.0, every_steps=None, every_s=10.0)
    assert saved_names(tmp_path / "slow") == ["00000012-1-0"]


def stopped_after(task: Task, num_looks: int, stop: Stop) -> Task:
    """Returns the task with a stop that comes while validation is looked at."""
    looks = []

    def val_logits() -> np.ndarray:
        looks.append(1)
        if len(looks) == num_looks:
            stop.request()
        return task.val_logits()

    return replace(task, val_logits=val_logits)


@pytest.mark.parametrize("at_once", [3, 10])
def test_several_steps_in_a_call_train_what_single_steps_do(at_once: int, tmp_path: Path) -> None:
    single, several = make_task(ema=0.9), make_task(ema=0.9, at_once=at_once)
    one, other = run(single, tmp_path / "single"), run(several, tmp_path / "several", every_steps=5)
    assert (one.total_steps, one.finished[0].step) == (other.total_steps, other.finished[0].step)
    for expected, found in zip(tiny.values(single.net), tiny.values(several.net), strict=True):
        np.testing.assert_array_equal(expected, found)
    np.testing.assert_array_equal(one.finished[0].val_logits, other.finished[0].val_logits)
    assert saved_names(tmp_path / "several") == ["00000005-0-0", "00000010-0-0", "00000012-1-0"]


@pytest.mark.parametrize(("ema", "at_once"), [(0.0, 1), (0.9, 1), (0.9, 4)])
def test_stopped_and_resumed_equals_never_stopped(ema: float, at_once: int, tmp_path: Path) -> None:
    undisturbed = make_task(ema=ema)
    whole = run(undisturbed, tmp_path / "whole")
    stop = Stop(grace_s=1000)
    with pytest.raises(StoppedError, match=r"head, step 4 of 12 \(saved\)"):
        run(stopped_after(make_task(ema=ema, at_once=at_once), 2, stop), tmp_path / "parts", stop=stop)
    stop.finish()
    # Another process: other initial weights, nothing but what was saved.
    resumed = make_task(ema=ema, seed=99, at_once=at_once)
    with Checkpoints(
        tmp_path / "elsewhere" / "run", at(str(tmp_path / "parts" / "out")), keep=9, writes=True, on_error=print
    ) as saved:
        latest = saved.fetch(saved.newest())
        progress = Progress.load(latest)
        assert (progress.step, progress.phase) == (4, "head")
        with (
            Telemetry(tmp_path / "elsewhere" / "logs", TelemetryConfig()) as telemetry,
            console(io.StringIO()).bar("head", unit="images") as bar,
        ):
            Loop(saved, telemetry, Stop(), CheckpointConfig(), Timings()).run(resumed, progress, latest, bar)
    for one, other in zip(tiny.values(undisturbed.net), tiny.values(resumed.net), strict=True):
        np.testing.assert_array_equal(one, other)
    assert whole.finished[0].step == progress.finished[0].step
    np.testing.assert_array_equal(whole.finished[0].val_logits, progress.finished[0].val_logits)
    for position, value in whole.finished[0].weights.items():
        np.testing.assert_array_equal(value, progress.finished[0].weights[position])


def test_divergence_names_step_images_and_remedy_and_moves_nothing(tmp_path: Path) -> None:
    task = make_task(poison=11, batch=tiny.N)
    before = tiny.values(task.net)[:2]
    with pytest.raises(DivergedError) as caught:
        run(task, tmp_path)
    assert caught.value.exit_code == 80
    named = task.feed.indices(0)[0][:8]
    for part in ("not finite: loss nan", "at or before step 1 of head", *(f"image-{index}.jpg" for index in named)):
        assert part in caught.value.message
    assert "train.head.learning_rate (0.05)" in caught.value.next_step
    for value, now in zip(before, tiny.values(task.net)[:2], strict=True):
        np.testing.assert_array_equal(value, now)


def test_divergence_within_a_call_names_its_step_and_keeps_the_steps_before(tmp_path: Path) -> None:
    bad = 3  # of the first epoch, and not the first step of its call: the curves get a point every 2 steps
    poison = int(make_task().feed.indices(bad)[0][0])
    task, clean = make_task(poison=poison, at_once=10), make_task()
    for step in range(bad):
        clean.train_step(clean.feed.batch(step))
    with pytest.raises(DivergedError, match=f"at or before step {bad + 1} of head") as caught:
        run(task, tmp_path / "bad")
    assert f"image-{poison}.jpg" in caught.value.images
    assert list(caught.value.images) == task.names(task.feed.indices(bad)[0])
    for expected, found in zip(clean.variables, task.variables, strict=True):
        np.testing.assert_array_equal(expected.numpy(), found.numpy())


def test_an_error_that_is_no_divergence_is_not_called_one(tmp_path: Path) -> None:
    def failing(placed: object, *, is_stopping: bool) -> dict[str, Any]:
        raise tf.errors.InvalidArgumentError(None, None, "shapes do not match")

    task = make_task()
    task.train_step.run = failing  # type: ignore[method-assign]
    with pytest.raises(tf.errors.InvalidArgumentError, match="shapes do not match"):
        run(task, tmp_path)
