"""`finetune check`: data of every kind of URI is read and surveyed, the output is tried, nothing is left there."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from job import config as configs
from job import rundir
from job.checking import check
from job.console import JsonConsole
from job.demo.object_store import ObjectStore
from job.demo.object_store.faults import Fault, Status
from job.errors import AccessError, ConfigError, InputMissingError, JobError
from job.interruption import Stop
from job.platforms import Platform
from job.workspace import Workspace

NAMES = [f"{label}/{number}.png" for label in ("cat", "dog") for number in range(10)]


def _image(seed: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(stream, "PNG")
    return stream.getvalue()


IMAGES = {name: _image(seed) for seed, name in enumerate(NAMES)}


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    with ObjectStore() as store:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", store.url)
        for name, data in IMAGES.items():
            store.put("photos", f"set/{name}", data)
        store.put("photos", "set/labels.csv", _csv(""))
        store.put("photos", "lists/full.csv", _csv("gs://photos/set/"))
        store.put("photos", "lists/vertex.jsonl", _jsonl("gs://photos/set/"))
        store.put("photos", "set.zip", _zip())
        store.make_bucket("runs")
        yield store


def _csv(folder: str) -> bytes:
    lines = ["image,label", *(f"{folder}{name},{name.partition('/')[0]}" for name in NAMES)]
    return "\n".join(lines).encode()


def _jsonl(folder: str) -> bytes:
    lines = (
        {"imageGcsUri": folder + name, "classificationAnnotation": {"displayName": name.partition("/")[0]}}
        for name in NAMES
    )
    return "\n".join(map(json.dumps, lines)).encode()


def _zip() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in IMAGES.items():
            archive.writestr(name, data)
    return stream.getvalue()


def _check(tmp_path: Path, data: str, output: str = "gs://runs/1", **values: object) -> list[str]:
    """Runs a check and returns what it said."""
    stream = io.StringIO()
    given = {
        "data.uri": data,
        "output": output,
        "work_dir": str(tmp_path / "work"),
        "data.image_px": 32,
        "model.weights": "none",
        **values,
    }
    config = configs.load(values=given)
    check(config, Platform("laptop"), JsonConsole(stream), Stop(), with_data=True)
    return [json.loads(line)["message"] for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize(
    "data",
    [
        "gs://photos/set",
        "gs://photos/set/",
        "gs://photos/set/labels.csv",
        "gs://photos/lists/full.csv",
        "gs://photos/lists/vertex.jsonl",
        "gs://photos/set.zip",
    ],
)
def test_remote_data_of_every_form_is_read(data: str, bucket: ObjectStore, tmp_path: Path) -> None:
    said = _check(tmp_path, data)
    assert any(line.startswith("20 images in 2 classes") for line in said)
    assert said[-1].startswith("Everything is ready")
    assert bucket.names("runs") == []


@pytest.mark.parametrize("form", ["{}/set", "file://{}/set", "file://{}/set.zip", "{}/set/labels.csv"])
def test_local_data_of_every_form_is_read(form: str, tmp_path: Path) -> None:
    for name, data in IMAGES.items():
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(data)
    if form.endswith("labels.csv"):
        (tmp_path / "set" / "labels.csv").write_bytes(_csv(""))
    (tmp_path / "set.zip").write_bytes(_zip())
    said = _check(tmp_path, form.format(tmp_path), output=f"{tmp_path}/run")
    assert any(line.startswith("20 images in 2 classes") for line in said)
    assert list((tmp_path / "run").iterdir()) == []


def test_an_image_that_a_remote_manifest_names_and_is_not_there_is_named(bucket: ObjectStore, tmp_path: Path) -> None:
    bucket.put("photos", "set/labels.csv", _csv("") + b"\ncat/missing.png,cat")
    with pytest.raises(InputMissingError, match=r"1 of 22 files .*cat/missing\.png"):
        _check(tmp_path, "gs://photos/set/labels.csv")


def test_an_output_of_another_config_is_refused_before_anything_is_pulled(bucket: ObjectStore, tmp_path: Path) -> None:
    config = configs.load(values={"data.uri": "gs://photos/set", "output": "gs://runs/1", "train.seed": 7})
    bucket.put("runs", f"1/{rundir.CONFIG}", configs.to_yaml(config).encode())
    with pytest.raises(ConfigError, match=r"train\.seed: 7 there, 0 now"):
        _check(tmp_path, "gs://photos/set")
    assert not (tmp_path / "work").exists()


def test_a_finished_run_is_announced(bucket: ObjectStore, tmp_path: Path) -> None:
    bucket.put("runs", f"1/{rundir.DONE}", b"{}")
    assert any("finished run" in line for line in _check(tmp_path, "gs://photos/set"))


@pytest.mark.parametrize(
    ("values", "kind", "says"),
    [
        ({"model.backbone": "resnet51"}, ConfigError, "Did you mean 'resnet50'"),
        ({"model.weights": "gs://photos/none.weights.h5"}, InputMissingError, "none.weights.h5"),
        ({"model.weights": "gs://photos/w.weights.h5", "model.weights_sha256": "0" * 64}, ConfigError, "SHA-256"),
        ({"output": "gs://nowhere/run"}, InputMissingError, "gs://nowhere"),
        ({"output": "ftp://nowhere/run"}, ConfigError, "'ftp'"),
        ({"data.uri": "gs://nowhere/set"}, InputMissingError, "gs://nowhere"),
        ({"data.uri": "gs://photos/sets"}, InputMissingError, "nothing is below gs://photos/sets"),
    ],
)
def test_what_is_wrong_is_said_with_a_next_step(
    values: dict[str, object], kind: type[JobError], says: str, bucket: ObjectStore, tmp_path: Path
) -> None:
    bucket.put("photos", "w.weights.h5", b"x")
    given = {"data": "gs://photos/set", "output": "gs://runs/1"}
    given |= {key.removesuffix(".uri"): str(values[key]) for key in values if key in ("data.uri", "output")}
    rest = {key: value for key, value in values.items() if key not in ("data.uri", "output")}
    with pytest.raises(kind, match=says) as error:
        _check(tmp_path, given["data"], given["output"], **rest)
    assert error.value.next_step
    assert bucket.names("runs") == []


def test_an_output_that_may_not_be_written_to_is_found_first(bucket: ObjectStore, tmp_path: Path) -> None:
    def read_only(method: str, target: str, headers: object) -> Fault | None:
        return Status(403) if method == "POST" else None

    bucket.fault = read_only
    with pytest.raises(AccessError, match=r"gs://runs/1/\.finetune-check"):
        _check(tmp_path, "gs://photos/set")
    assert not (tmp_path / "work").exists()


def test_an_output_that_keeps_everything_will_do_with_a_warning(bucket: ObjectStore, tmp_path: Path) -> None:
    def nothing_goes(method: str, target: str, headers: object) -> Fault | None:
        return Status(403) if method == "DELETE" else None

    bucket.fault = nothing_goes
    assert any("old checkpoints stay" in line for line in _check(tmp_path, "gs://photos/set"))


def test_images_of_folders_with_like_names_are_kept_apart(bucket: ObjectStore, tmp_path: Path) -> None:
    from job.stages import pull

    for name in ("a-b/c", "a/b-c"):
        bucket.put("photos", f"{name}/1.png", name.encode())
    uris = ["gs://photos/a-b/c/1.png", "gs://photos/a/b-c/1.png"]
    (tmp_path / "labels.csv").write_text("image,label\n" + "".join(f"{uri},x\n" for uri in uris))
    given = {"data.uri": f"{tmp_path}/labels.csv", "output": "gs://runs/1", "work_dir": f"{tmp_path}/work"}
    workspace = Workspace.open(configs.load(values=given), Platform("laptop"), JsonConsole(io.StringIO()), Stop())
    local = pull.named_images(workspace, pull.dataset(workspace))
    assert [local[uri].read_bytes() for uri in uris] == [b"a-b/c", b"a/b-c"]


@pytest.mark.parametrize("data", ["gs://photos/set.zip", "set.zip"])
def test_an_archive_is_unpacked_once_under_a_bar_of_its_own(data: str, bucket: ObjectStore, tmp_path: Path) -> None:
    if data == "set.zip":
        (tmp_path / data).write_bytes(_zip())
        data = str(tmp_path / data)
    said = [line.partition(",")[0] for line in _check(tmp_path, data)]
    bars = [line for line in said if line.startswith(("unpack: ", "survey: "))]
    assert bars == ["unpack: 1/1 MB", "survey: 20/20 images"]
    assert not any(line.startswith("unpack") for line in _check(tmp_path, data))
