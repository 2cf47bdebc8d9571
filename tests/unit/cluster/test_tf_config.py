"""What TF_CONFIG says about the machines of a run."""

from __future__ import annotations

import json

import pytest

from job import cluster
from job.cluster import ALONE, Cluster
from job.errors import ConfigError

pytestmark = pytest.mark.cluster


def tf_config(*workers: str, **task: object) -> dict[str, str]:
    task = {"type": "worker", "index": 0, **task}
    return {"TF_CONFIG": json.dumps({"cluster": {"worker": list(workers)}, "task": task})}


@pytest.mark.parametrize("environ", [{}, {"TF_CONFIG": ""}, {"TF_CONFIG": "{}"}, tf_config("a:1")])
def test_one_machine_is_alone(environ: dict[str, str]) -> None:
    assert cluster.of("auto", environ) == ALONE == Cluster(1, 0)
    assert ALONE.is_chief


def test_workers_are_numbered_with_the_chief_first() -> None:
    machines = {"chief": ["a:1"], "worker": ["b:1", "c:1"], "ps": []}

    def seen_from(kind: str, index: int) -> Cluster:
        return cluster.of(
            "auto", {"TF_CONFIG": json.dumps({"cluster": machines, "task": {"type": kind, "index": index}})}
        )

    assert [seen_from("chief", 0), seen_from("worker", 0), seen_from("worker", 1)] == [
        Cluster(3, 0),
        Cluster(3, 1),
        Cluster(3, 2),
    ]
    assert [seen_from("chief", 0).is_chief, seen_from("worker", 0).is_chief] == [True, False]
    assert cluster.of("multi_worker", tf_config("a:1", "b:1", index=1)) == Cluster(2, 1)


@pytest.mark.parametrize("strategy", ["single", "mirrored"])
def test_a_strategy_for_one_machine_asks_nobody_else(strategy: str) -> None:
    assert cluster.of(strategy, tf_config("a:1", "b:1", index=1)) == ALONE


@pytest.mark.parametrize("environ", [{}, tf_config("a:1")])
def test_multi_worker_needs_two_workers(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"train\.strategy is multi_worker, but TF_CONFIG is") as caught:
        cluster.of("multi_worker", environ)
    assert "train.strategy=mirrored" in caught.value.next_step


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '"worker"',
        "7",
        '{"cluster": []}',
        '{"cluster": {"worker": "a:1,b:2"}}',
        '{"cluster": 1}',
        '{"cluster": {"worker": ["a:1", "b:1"]}}',
        '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}}',
        '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "evaluator", "index": 0}}',
    ],
)
@pytest.mark.parametrize("strategy", ["auto", "multi_worker"])
def test_a_tf_config_that_is_none_is_refused_with_an_example(strategy: str, text: str) -> None:
    with pytest.raises(ConfigError, match="TF_CONFIG is not the JSON that TensorFlow expects") as caught:
        cluster.of(strategy, {"TF_CONFIG": text})
    assert text in caught.value.message
    assert '"cluster"' in caught.value.next_step
