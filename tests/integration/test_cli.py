"""How the process ends: what it says, where, and with which exit code."""

from __future__ import annotations

import errno
import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from job import checking, cli, platforms
from job.errors import AccessError, ConfigError
from tests import rights

REPOSITORY = Path(__file__).resolve().parents[2]


def _main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["finetune", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def _failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(checking, "check", fail)


def test_an_error_is_one_json_line_where_nobody_looks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _main(monkeypatch, "check", "--no-data", "--set", "train.sed=1") == 78
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    event = json.loads(line)
    assert said.out == ""
    assert (event["severity"], event["error"], event["exit_code"]) == ("ERROR", "ConfigError", 78)
    assert "Did you mean 'seed'?" in event["message"]
    assert "\n  Next: " in event["message"]


def test_an_error_is_plain_text_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert _main(monkeypatch, "check", "--no-data", "--set", "train.sed=1") == 78
    text = capsys.readouterr().err
    assert "error" in text.splitlines()[0]
    assert "The config has a fault:\n  train.sed: unknown key. Did you mean 'seed'?" in text
    assert "{" not in text


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConfigError("It is wrong.", next_step="Mend it."), "It is wrong.\n  Next: Mend it."),
        (RuntimeError("our fault"), "RuntimeError: our fault"),
        (OSError(errno.EBADF, "our fault"), "OSError: [Errno 9] our fault"),
    ],
)
def test_the_platform_is_told_the_reason(
    error: Exception, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "opt" / "ml" / "output").mkdir(parents=True)
    monkeypatch.setattr("job.platforms.say_why", functools.partial(platforms.say_why, root=tmp_path))
    _failing(monkeypatch, error)
    monkeypatch.setattr("sys.argv", ["finetune", "check", "--no-data"])
    with pytest.raises((SystemExit, type(error))):
        cli.main()
    assert (tmp_path / "opt" / "ml" / "output" / "failure").read_text() == reason


def test_who_leaves_at_the_end_of_the_grace_period_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "opt" / "ml" / "output").mkdir(parents=True)
    monkeypatch.setattr("job.platforms.say_why", functools.partial(platforms.say_why, root=tmp_path))
    left: list[int] = []
    monkeypatch.setattr("os._exit", left.append)
    cli._leave(143)
    assert left == [143]
    assert "grace period" in (tmp_path / "opt" / "ml" / "output" / "failure").read_text()


@pytest.mark.parametrize(
    ("number", "code", "says"),
    [
        (errno.ENOSPC, 75, "MB are free"),
        (errno.EDQUOT, 75, "MB are free"),
        (errno.EACCES, 77, "no permission for /cache/pixels.npy"),
        (errno.EROFS, 77, "no permission for /cache/pixels.npy"),
    ],
)
def test_what_the_disk_refuses_is_the_users_to_mend(
    number: int, code: int, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _failing(monkeypatch, OSError(number, os.strerror(number), "/cache/pixels.npy"))
    assert _main(monkeypatch, "check", "--no-data") == code
    assert says in json.loads(capsys.readouterr().err)["message"]


@pytest.mark.parametrize("error", [RuntimeError("our fault"), OSError(errno.EBADF, "our fault")])
def test_the_unforeseen_goes_on_as_it_is(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    _failing(monkeypatch, error)
    monkeypatch.setattr("sys.argv", ["finetune", "check", "--no-data"])
    with pytest.raises(type(error), match="our fault"):
        cli.main()


def test_control_c_ends_quietly(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _failing(monkeypatch, KeyboardInterrupt())
    assert _main(monkeypatch, "check", "--no-data") == 130
    assert "Traceback" not in capsys.readouterr().err


def test_a_file_with_settings_a_flag_and_set_come_together(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("data: {uri: here}\noutput: there\ntrain: {seed: 1}\n")
    seen = []
    monkeypatch.setattr(checking, "check", lambda config, *_, **__: seen.append(config))
    assert _main(monkeypatch, "check", str(path), "--data", "12: x", "--set", "train.seed=2", "--no-data") == 0
    assert (seen[0].data.uri, seen[0].output, seen[0].train.seed) == ("12: x", "there", 2)


@pytest.mark.parametrize("arguments", ["check", "plan", "render kubernetes --image i:1", "render vertex --image i:1"])
def test_a_config_without_permission(tmp_path: Path, arguments: str) -> None:
    path = tmp_path / "config.yaml"
    path.touch(mode=0)
    command = rights.bound(sys.executable, "-m", "job", *arguments.split(), str(path))
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == AccessError.exit_code, done.stderr
    assert str(path) in done.stderr
