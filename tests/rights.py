"""Commands that have no more rights to files than their modes give: root's too, which otherwise may do everything."""

from __future__ import annotations

import os


def bound(*command: str) -> list[str]:
    """Returns the command without the capabilities by which root passes over the modes of files (capabilities(7))."""
    if os.getuid() != 0:
        return list(command)
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *command]
