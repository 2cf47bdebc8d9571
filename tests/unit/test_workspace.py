"""A run is a folder, and re-running it is always safe."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from job import config as configs
from job import rundir
from job.console import JsonConsole
from job.errors import ConfigError, StoppedError, UsageError
from job.interruption import Stop
from job.platforms import Platform
from job.workspace import Workspace, absolute, slug, work_root


def _open(tmp_path: Path, *overrides: str, platform: Platform | None = None) -> Workspace:
    settings = [f"data.uri={tmp_path}/data", f"output={tmp_path}/run", f"work_dir={tmp_path}/work", *overrides]
    config = configs.load(None, settings)
    return Workspace.open(config, platform or Platform("laptop"), JsonConsole(io.StringIO()), Stop())


def test_a_new_run_has_no_report(tmp_path: Path) -> None:
    assert _open(tmp_path).finished_report() is None


def test_a_finished_run_is_read_not_run(tmp_path: Path) -> None:
    workspace = _open(tmp_path)
    workspace.begin({"finetune-job": "0"})
    workspace.write(rundir.DONE, json.dumps({"accepted": True}))
    assert _open(tmp_path).finished_report() == {"accepted": True}


def test_another_config_on_the_same_output_is_refused_with_the_difference(tmp_path: Path) -> None:
    _open(tmp_path).begin({"finetune-job": "0"})
    with pytest.raises(ConfigError, match=r"train\.seed: 0 there, 7 now") as error:
        _open(tmp_path, "train.seed=7").finished_report()
    assert error.value.exit_code == 78
    assert "another --output" in error.value.next_step


def test_what_changes_no_result_may_change(tmp_path: Path) -> None:
    _open(tmp_path).begin({"finetune-job": "0"})
    freed = ("checkpoint.every_s=5", "telemetry.every_steps=1", "require.accuracy=0.5", "train.start_timeout_s=9")
    changed = _open(tmp_path, *freed)
    assert changed.finished_report() is None


def test_a_new_run_takes_nothing_from_an_old_local_folder(tmp_path: Path) -> None:
    workspace = _open(tmp_path)
    left_over = workspace.folder / rundir.CHECKPOINTS / "00000010-1"
    left_over.mkdir(parents=True)
    workspace.begin({"finetune-job": "0"})
    assert not left_over.exists()
    left_over.mkdir(parents=True)
    _open(tmp_path).begin({"finetune-job": "0"})
    assert left_over.exists()


def test_the_platform_fills_in_what_is_open(tmp_path: Path) -> None:
    config = configs.load(None, [f"work_dir={tmp_path}"])
    platform = Platform("vertex", data_uri="gs://b/data", output_uri="gs://b/out")
    stop = Stop()
    workspace = Workspace.open(config, platform, JsonConsole(io.StringIO()), stop)
    assert (workspace.config.data.uri, workspace.config.output) == ("gs://b/data", "gs://b/out")


@pytest.mark.parametrize(("missing", "given"), [("data", "output"), ("output", "data.uri")])
def test_without_data_or_output_the_usage_is_shown(missing: str, given: str, tmp_path: Path) -> None:
    config = configs.load(None, [f"{given}={tmp_path}"])
    with pytest.raises(UsageError, match=f"does not know its {missing}") as error:
        Workspace.open(config, Platform("laptop"), JsonConsole(io.StringIO()), Stop())
    assert error.value.exit_code == 2
    assert f"--{missing} URI" in error.value.next_step


def test_different_uris_have_different_folders() -> None:
    assert slug("gs://a/photos") != slug("gs://b/photos")
    assert slug("gs://a/photos").startswith("photos-")


def test_only_local_paths_are_made_absolute() -> None:
    assert absolute("gs://a/b") == "gs://a/b"
    assert Path(absolute("runs/1")).is_absolute()
    assert absolute("file:///data/my%20photos/") == "/data/my photos"
    assert absolute("gs://a/b/") == "gs://a/b"


def test_a_check_writes_no_status(tmp_path: Path) -> None:
    for is_run in (False, True):
        workspace = Workspace.open(
            _open(tmp_path).config, Platform("laptop"), JsonConsole(io.StringIO()), Stop(), is_run=is_run
        )
        with workspace.bar("pull", unit="objects") as bar:
            bar.update(1, 2)
        workspace.status.settle()
        assert (workspace.output.stat(rundir.STATUS) is not None) is is_run


def test_a_config_of_another_version_is_refused_by_name(tmp_path: Path) -> None:
    workspace = _open(tmp_path)
    workspace.output.write(rundir.CONFIG, b"train: {epochs: 3}")
    with pytest.raises(ConfigError, match=r"run/config\.yaml has a fault:\n  train\.epochs: unknown key"):
        workspace.finished_report()


def test_a_user_without_a_home_is_asked_for_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("os.getuid", lambda: 2**31 - 5)
    with pytest.raises(UsageError, match="work_dir"):
        work_root(configs.load())


def test_a_stage_is_left_when_the_job_was_asked_to_stop(tmp_path: Path) -> None:
    workspace = _open(tmp_path)
    workspace.stop.request()
    with workspace.bar("pull", unit="objects") as bar, pytest.raises(StoppedError, match="during pull"):
        workspace.watched(bar, "pull")(1, 2)
    workspace.stop.finish()


def test_the_watchdog_leaves_with_143_before_the_grace_period_ends() -> None:
    import threading

    left = threading.Event()
    codes: list[int] = []

    def leave(code: int) -> None:
        codes.append(code)
        left.set()

    stop = Stop(grace_s=0.0, leave=leave)
    stop.request()
    assert left.wait(30)
    assert codes == [143]


def test_what_is_published_shows_how_far_it_is(tmp_path: Path) -> None:
    workspace = _open(tmp_path)
    said = io.StringIO()
    workspace.console = workspace.status._console = JsonConsole(said)
    for name in ("saved_model.pb", "variables/variables.index", "assets/labels.txt"):
        path = workspace.folder / rundir.EXPORT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    workspace.publish(rundir.EXPORT)
    (event,) = [json.loads(line) for line in said.getvalue().splitlines()]
    assert (event["stage"], event["done"], event["total"]) == ("push", 3, 3)
    assert workspace.output.read(f"{rundir.EXPORT}/assets/labels.txt") == b"assets/labels.txt"


def test_a_stop_is_heeded_between_two_published_files(tmp_path: Path) -> None:
    workspace = _open(tmp_path)
    (workspace.folder / rundir.EXPORT).mkdir(parents=True)
    (workspace.folder / rundir.EXPORT / "saved_model.pb").write_text("model")
    workspace.stop.finish()  # no watchdog: this process goes on
    workspace.stop.request()
    with pytest.raises(StoppedError, match="push"):
        workspace.publish(rundir.EXPORT)
