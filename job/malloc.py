"""The C library's memory allocator, set for tensors: what is freed is kept for the next one.

As glibc comes, each of TensorFlow's threads allocates from a region of its own, of 64 MB at most, which is given back
to the system whenever its end is free, and what is larger is mapped anew each time. All of it then faults in again,
page by page, and is zeroed: a pass of 64 images of 160 px through MobileNetV2 touches 480 MB of new pages.
"""

from __future__ import annotations

import ctypes
from typing import Final

_ARENA_MAX: Final = -8
_MMAP_THRESHOLD: Final = -3
_TRIM_THRESHOLD: Final = -1
"""Parameters of mallopt(3), from glibc's malloc.h."""
_LARGEST: Final = 2**31 - 1


def keep_freed_memory() -> None:
    """Makes all threads that start from now on allocate from one region, which never shrinks.

    Measured on two cores: the pass above takes 0.26 s, 0.44 s without, and no more memory. Where the C library is not
    glibc nothing is set.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        library.mallopt(_ARENA_MAX, 1)
        library.mallopt(_MMAP_THRESHOLD, _LARGEST)
        library.mallopt(_TRIM_THRESHOLD, _LARGEST)
