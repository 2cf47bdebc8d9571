"""TF_CONFIG from what a Kubernetes Indexed Job gives each pod."""

from __future__ import annotations

import json

import pytest

from job import cluster
from job.cluster import Cluster, indexed
from job.errors import ConfigError

pytestmark = pytest.mark.cluster

POD = {
    "JOB_COMPLETION_INDEX": "1",
    "FINETUNE_WORKERS": "3",
    "FINETUNE_JOB": "flowers",
    "FINETUNE_SERVICE": "flowers-workers",
}


def test_a_pod_names_all_workers_and_itself() -> None:
    environ = dict(POD)
    indexed.export(environ)
    assert json.loads(environ["TF_CONFIG"]) == {
        "cluster": {
            "worker": [f"flowers-{number}.flowers-workers:2222" for number in range(3)],
        },
        "task": {"type": "worker", "index": 1},
    }
    assert cluster.of("auto", environ) == Cluster(3, 1)
    assert cluster.of("auto", environ).addresses[2] == "flowers-2.flowers-workers:2222"


def test_the_port_can_be_another() -> None:
    text = indexed.tf_config({**POD, "FINETUNE_PORT": "7000"})
    assert text is not None
    assert {address.rpartition(":")[2] for address in json.loads(text)["cluster"]["worker"]} == {"7000"}


def test_a_tf_config_that_is_there_wins() -> None:
    environ = {**POD, "TF_CONFIG": "{}"}
    indexed.export(environ)
    assert environ["TF_CONFIG"] == "{}"


@pytest.mark.parametrize("environ", [{}, {"JOB_COMPLETION_INDEX": "0"}, {**POD, "FINETUNE_WORKERS": "1"}])
def test_one_machine_gets_none(environ: dict[str, str]) -> None:
    environ = dict(environ)
    indexed.export(environ)
    assert "TF_CONFIG" not in environ


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("FINETUNE_WORKERS", "two", "1 to 1000"),
        ("FINETUNE_WORKERS", "0", "1 to 1000"),
        ("JOB_COMPLETION_INDEX", "", "0 to 2"),
        ("JOB_COMPLETION_INDEX", "3", "0 to 2"),
        ("JOB_COMPLETION_INDEX", "-1", "0 to 2"),
        ("JOB_COMPLETION_INDEX", "٢", "0 to 2"),
        ("FINETUNE_PORT", "65536", "1 to 65535"),
        ("FINETUNE_JOB", "", "not set"),
        ("FINETUNE_SERVICE", "", "not set"),
    ],
)
def test_what_a_pod_lacks_is_named(name: str, value: str, allowed: str) -> None:
    with pytest.raises(ConfigError, match=name) as caught:
        indexed.tf_config({**POD, name: value})
    assert allowed in caught.value.message
    assert "k8s/components/multi-node" in caught.value.next_step
