"""What is in the image, and as whom it runs."""

from __future__ import annotations

import json
import re
import subprocess

import job
from tests.image.containers import HARDENED, NO_SHELL, REPOSITORY, Podman

ISOLATED = (*HARDENED, "--network=none")


def test_the_job_is_process_1_of_uid_10001_without_capabilities_or_new_privileges(podman: Podman, image: str) -> None:
    configured = json.loads(podman("image", "inspect", image).stdout)[0]["Config"]
    assert configured["Entrypoint"] == ["/opt/venv/bin/python", "-m", "job"]
    assert configured["User"] == "10001:10001"
    done = podman.run(image, "-c", "print(open('/proc/self/status').read())", flags=ISOLATED, python=True)
    status = dict(re.findall(r"^(\w+):\s+(.*)$", done.stdout, re.MULTILINE))
    assert status["Pid"] == "1"
    assert status["Uid"].split() == status["Gid"].split() == ["10001"] * 4
    assert status["Groups"].split() in ([], ["10001"])
    assert (int(status["CapEff"], 16), status["NoNewPrivs"]) == (0, "1")


def test_nothing_but_tmp_can_be_written(podman: Podman, image: str) -> None:
    code = (
        "import pathlib\n"
        "for folder in ('/', '/opt/app', '/opt/venv', '/etc', '/var/tmp', '/tmp'):\n"
        "    try:\n"
        "        pathlib.Path(folder, 'x').write_text('x'); print(folder)\n"
        "    except OSError as error: pass\n"
    )
    assert podman.run(image, "-c", code, flags=ISOLATED, python=True).stdout.split() == ["/tmp"]


def test_help_needs_neither_shell_nor_network(podman: Podman, image: str) -> None:
    flags = (*ISOLATED, *NO_SHELL)
    shell = podman.run(image, "-c", "import os; print(os.system('true'))", flags=flags, python=True)
    assert shell.stdout.strip() != "0", "the control: a shell still runs"
    done = podman.run(image, flags=flags)
    assert done.code == 0, done.stderr
    assert "finetune train" in done.stdout


def test_the_labels_say_which_version_of_what_it_is(podman: Podman, image: str) -> None:
    labels = json.loads(podman("image", "inspect", image).stdout)[0]["Labels"]
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    revision = head.stdout.strip() or "unknown"
    of = "org.opencontainers.image."
    assert labels[f"{of}title"] == "finetune-job"
    assert labels[f"{of}licenses"] == "Apache-2.0"
    assert labels[f"{of}version"] == job.__version__
    assert labels[f"{of}revision"].removesuffix("-dirty") == revision
    assert podman.run(image, "--version", flags=ISOLATED).stdout.strip() == job.__version__


def test_the_bill_of_materials_names_every_locked_package_and_the_systems(podman: Podman, image: str) -> None:
    code = "print(open('/opt/app/sbom.cdx.json').read())"
    document = json.loads(podman.run(image, "-c", code, flags=ISOLATED, python=True).stdout)
    assert document["metadata"]["component"]["purl"] == f"pkg:pypi/finetune-job@{job.__version__}"
    found = {one["purl"] for one in document["components"]}
    lock = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8")
    # Some pins are for other systems or Pythons only.
    everywhere = re.findall(r"^([a-z0-9-]+)==([^ ;\\]+) \\$", lock, re.MULTILINE)
    assert len(everywhere) > 30
    assert {f"pkg:pypi/{name}@{version}" for name, version in everywhere} <= found
    assert any(purl.startswith("pkg:deb/debian/libc6@") for purl in found)
    assert {one["name"] for one in document["components"]} >= {"python", "tensorflow", "boto3", "azure-storage-blob"}


def test_the_last_layer_with_content_is_the_application_and_small(podman: Podman, image: str) -> None:
    layers = json.loads(podman("history", "--format", "json", image).stdout)
    sizes = [layer["size"] for layer in layers if layer["size"]]
    # From the last to the first: the application, the packages, the user, the base.
    assert sizes[0] < 10e6 < 1e9 < sizes[1]
    assert len(sizes) == 4


def test_what_built_it_is_not_in_it(podman: Podman, image: str) -> None:
    code = (
        "import importlib.util as u, pathlib\n"
        "print([n for n in ('pip', 'uv', 'hatchling', 'editables', 'pytest') if u.find_spec(n)],\n"
        "      [f for f in ('/build', '/root/.cache', '/opt/build', '/etc/pip.conf') if pathlib.Path(f).exists()])\n"
    )
    assert podman.run(image, "-c", code, flags=(*ISOLATED, "--user=0"), python=True).stdout.strip() == "[] []"


def test_s3_and_az_are_inside(podman: Podman, image: str) -> None:
    code = "from job.storage import at; print(at('s3://b/x').uri, at('az://b/x').uri)"
    variables = ("AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b", "AWS_REGION=c", "AZURE_STORAGE_ACCOUNT_NAME=d")
    flags = (*ISOLATED, *(f"--env={one}" for one in variables))
    done = podman.run(image, "-c", code, flags=flags, python=True)
    assert done.stdout.split() == ["s3://b/x", "az://b/x"], done.stderr
