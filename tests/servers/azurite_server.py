"""Azurite as a process of its own on a loopback port: Microsoft's emulator of Azure's blob service.

Installed by `scripts/setup-azurite`. Everything is kept in its memory and gone with it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path

import urllib3

PROGRAM = Path(__file__).parent / "azurite" / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
ACCOUNT = "tests"
KEY = base64.b64encode(b"a key that opens nothing but this emulator").decode()


def missing() -> str:
    """Returns why Azurite cannot be started here, or ""."""
    if not shutil.which("node"):
        return "Node.js is not there: scripts/setup-azurite"
    return "" if PROGRAM.is_file() else "Azurite is not installed: scripts/setup-azurite"


@contextmanager
def azurite() -> Iterator[str]:
    """Yields the URL of a running service, with its account: what AZURE_STORAGE_ENDPOINT takes."""
    process = subprocess.Popen(
        ["node", str(PROGRAM), "--inMemoryPersistence", "--blobPort", "0", "--disableTelemetry"],
        env=os.environ | {"AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}", "NODE_OPTIONS": "--no-deprecation"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        said = []
        for line in process.stdout:
            said.append(line)
            if found := re.search(r"successfully listens on (http://\S+)", line):
                break
        else:
            raise RuntimeError("Azurite did not start:\n" + "".join(said))
        yield f"{found[1]}/{ACCOUNT}"
    finally:
        process.terminate()
        process.communicate()


def make_container(url: str, name: str) -> None:
    """Makes a container: the one operation that a store of objects does not have.

    Source: "Authorize with Shared Key" in the REST reference of Azure Storage.
    """
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-12-02"}
    lines = ["PUT", *[""] * 11, *(f"{key}:{value}" for key, value in sorted(headers.items()))]
    # An emulator has the account in its path, so it stands here twice.
    lines += [f"/{ACCOUNT}/{ACCOUNT}/{name}", "restype:container"]
    signed = hmac.digest(base64.b64decode(KEY), "\n".join(lines).encode(), hashlib.sha256)
    headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(signed).decode()}"
    answer = urllib3.request("PUT", f"{url}/{name}?restype=container", headers=headers)
    if answer.status != 201:
        raise RuntimeError(f"no container {name}: HTTP {answer.status}: {answer.data.decode()}")
