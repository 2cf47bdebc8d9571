"""No secret leaves the process, and nothing else is taken out of what it says."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from job import config as configs
from job import masking, rundir
from job.config import Config
from job.console import JsonConsole, TerminalConsole
from job.errors import AccessError, ConfigError
from job.interruption import Stop
from job.masking import masked, masked_tree
from job.platforms import Platform
from job.storage.ledger import Ledger
from job.workspace import Workspace, slug

SECRET = "s3cr3tValue0123456789"

SIGNED = f"gs://bucket/photos?X-Goog-Date=20260101T000000Z&X-Goog-Expires=900&X-Goog-Signature={SECRET}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SIGNED, "gs://bucket/photos?***"),
        (
            f"https://b.s3.amazonaws.com/k?X-Amz-Credential={SECRET}&X-Amz-Signature=0",
            "https://b.s3.amazonaws.com/k?***",
        ),
        (f"az://photos/set?sv=2022-11-02&sp=r&sig={SECRET}%3D now", "az://photos/set?*** now"),
        (f"no object 'set%3Fsig%3D{SECRET}' there", "no object 'set%3Fsig%3D***' there"),
        (f"AZURE_STORAGE_SAS_KEY is sv=1&sig={SECRET}&se=2", "AZURE_STORAGE_SAS_KEY is sv=1&sig=***&se=2"),
        (f"s3://user:{SECRET}@bucket/key", "s3://***@bucket/key"),
        (f'{{"Authorization": "Bearer {SECRET}"}}', '{"Authorization": "***"}'),
        (f"sent Bearer {SECRET}.abc", "sent Bearer ***"),
        (f"authorization: SharedKey account:{SECRET}=\nnext", "authorization: ***\nnext"),
        (f"token ya29.{SECRET}-_x expired", "token *** expired"),
        ("key AKIAIOSFODNN7EXAMPLE is off", "key *** is off"),
        (f"AccountName=a;AccountKey={SECRET}==;EndpointSuffix=x", "AccountName=a;AccountKey=***;EndpointSuffix=x"),
        (f"jwt eyJhbGciOiJI.{SECRET}.sig", "jwt ***"),
        (f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----\nend", "***\nend"),
    ],
)
def test_a_secret_is_masked_and_the_rest_stays(text: str, expected: str) -> None:
    assert masked(text, environ={}) == expected
    assert masked(expected, environ={}) == expected


@pytest.mark.parametrize(
    "text",
    [
        "gs://asianortheast1photos/design=x/a.jpg",
        "q?x&y=z.txt",
        "12:30:01 UTC, 3 of 4 tries; mail me@example.org",
        "http://127.0.0.1:9000/bucket",
        "model.weights_sha256: 0f3a, train.seed: 7",
        "the token is expired; roles/storage.objectUser",
        "Set AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_KEY",
    ],
)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert masked(text, environ={"HOME": "/root", "PATH": "bucket"}) == text


def test_secrets_of_the_environment_are_masked_wherever_they_stand() -> None:
    environ = {
        "AWS_SECRET_ACCESS_KEY": "abc/def+ghi0",
        "AZURE_STORAGE_ACCOUNT_KEY": "abc/def+ghi0jkl",
        "MY_SERVICE_PASSWORD": "hunter2hunter2",
        "AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/token",
        "SHORT_TOKEN": "test",
    }
    said = "x abc/def+ghi0jkl y abc/def+ghi0 hunter2hunter2 /var/run/token test"
    assert masked(said, environ=environ) == "x *** y *** *** /var/run/token test"


@given(st.lists(st.sampled_from(["?", "&", "sig=", "://", "u:p@", "Authorization: ", "Bearer ", "abcdefgh", " ", '"'])))
def test_masking_twice_changes_nothing_more(parts: list[str]) -> None:
    once = masked("".join(parts), environ={})
    assert masked(once, environ={}) == once


def test_a_tree_keeps_its_shape() -> None:
    tree = {"uri": SIGNED, "list": [SIGNED, 3, None], "deep": {"x": 1.5, "y": True}}
    shown = "gs://bucket/photos?***"
    assert masked_tree(tree) == {"uri": shown, "list": [shown, 3, None], "deep": {"x": 1.5, "y": True}}


def test_an_error_holds_no_secret() -> None:
    error = AccessError(f"no permission for {SIGNED}", next_step=f"Look at {SIGNED}.")
    assert SECRET not in f"{error} {error!r} {error.message} {error.next_step} {error.args}"
    assert "gs://bucket/photos?***" in error.message


def test_the_console_says_no_secret() -> None:
    stream = io.StringIO()
    for console in (JsonConsole(stream), TerminalConsole(stream)):
        console.info(f"Pulled {SIGNED}", uri=SIGNED, deep={"uris": [SIGNED]}, path=Path(f"/x?sig={SECRET}"))
        console.warn(SIGNED)
        console.error(SIGNED)
    assert SECRET not in stream.getvalue()
    assert stream.getvalue().count("gs://bucket/photos?***") == 8


def test_what_python_itself_prints_holds_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    masking.guard()
    masking.guard()
    print("a", SIGNED)
    sys.stdout.writelines([SIGNED, "\n"])
    try:
        raise KeyError(SIGNED)
    except KeyError:
        sys.excepthook(*sys.exc_info())
    assert not sys.stdout.isatty()
    assert out.getvalue() == "a gs://bucket/photos?***\ngs://bucket/photos?***\n"
    assert "KeyError: 'gs://bucket/photos?***'" in err.getvalue()


def _workspace(tmp_path: Path, uri: str, *settings: str) -> Workspace:
    given = (f"data.uri={uri}", f"output={tmp_path}/run", f"work_dir={tmp_path}/work", *settings)
    return Workspace.open(configs.load(None, given), Platform("laptop"), JsonConsole(io.StringIO()), Stop())


def test_a_saved_config_holds_no_secret_and_is_the_same_config_on_resume(tmp_path: Path) -> None:
    _workspace(tmp_path, SIGNED).begin({})
    saved = (tmp_path / "run" / rundir.CONFIG).read_text()
    assert "uri: gs://bucket/photos?***" in saved
    assert _workspace(tmp_path, SIGNED).finished_report() is None
    again = SIGNED.replace(SECRET, "another").replace("20260101", "20260102")
    assert _workspace(tmp_path, again).finished_report() is None
    with pytest.raises(ConfigError, match=r"data\.uri: 'gs://bucket/photos\?\*\*\*' there, 'gs://other/photos"):
        _workspace(tmp_path, SIGNED.replace("bucket", "other")).finished_report()


def test_a_config_of_nothing_but_secrets_is_still_yaml() -> None:
    config = configs.load(None, ["data.uri=AKIAIOSFODNN7EXAMPLE", "model.backbone=a?sig=b"])
    read = configs.validate(configs.parse(configs.to_yaml(config), name="config.yaml"))
    assert (read.data.uri, read.model.backbone) == ("***", "a?***")


def test_files_of_the_run_and_names_of_folders_hold_no_secret(tmp_path: Path) -> None:
    workspace = _workspace(tmp_path, SIGNED)
    workspace.write(rundir.DONE, json.dumps({"data_uri": SIGNED}))
    Ledger().commit(tmp_path, uri=SIGNED, digest="", num_bytes=0)
    for path in tmp_path.rglob("*"):
        assert SECRET not in str(path)
        assert path.is_dir() or SECRET not in path.read_text()
    assert SECRET not in slug(SIGNED)
    assert json.loads((tmp_path / "run" / rundir.DONE).read_text()) == {"data_uri": "gs://bucket/photos?***"}


def test_a_config_without_secrets_is_saved_as_it_is() -> None:
    assert configs.validate(configs.parse(configs.to_yaml(Config()), name="x")) == Config()
