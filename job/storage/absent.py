"""Leaving out what a library would use if it were there."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def absent(package: str) -> Iterator[None]:
    """Makes `import package` fail inside the block, as if it were not installed, and work again afterwards.

    For optional parts of what is imported there. Where the package is loaded already, nothing changes.
    Source: https://docs.python.org/3/reference/import.html#the-module-cache (None as a module).
    """
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]
