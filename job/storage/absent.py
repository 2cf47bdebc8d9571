"""Leaving out what a library would use if it were there."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def absent(*packages: str) -> Iterator[None]:
    """Makes `import package` fail inside the block, as if it were not installed, and work again afterwards.

    For optional parts of what is imported there. Where a package is loaded already, nothing changes for it.
    Source: https://docs.python.org/3/reference/import.html#the-module-cache (None as a module).
    """
    hidden = [package for package in packages if package not in sys.modules]
    for package in hidden:
        sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        for package in hidden:
            del sys.modules[package]
