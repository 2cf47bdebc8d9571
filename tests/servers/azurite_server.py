"""Azurite as a process of its own on a loopback port: Microsoft's emulator of Azure's blob service.

Installed by `scripts/setup-azurite`. Everything is kept in its memory and gone with it.
"""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAM = Path(__file__).parent / "azurite" / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
ACCOUNT = "tests"
# Microsoft's client names a version of the service that is newer than the emulator.
OPTIONS = ("--inMemoryPersistence", "--blobPort", "0", "--disableTelemetry", "--skipApiVersionCheck")
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
        ["node", str(PROGRAM), *OPTIONS],
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
