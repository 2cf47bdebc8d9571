"""Which objects a listing shows, page by page. Used by both APIs.

Source: https://cloud.google.com/storage/docs/json_api/v1/objects/list.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass

from job.demo.object_store.contents import StoredObject
from job.demo.object_store.errors import ApiError

MAX_RESULTS = 1000


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a listing, sorted by name.

    Attributes:
        prefixes: Names cut after the delimiter, each once.
        next_token: Where the next page starts; "" on the last.
    """

    items: tuple[StoredObject, ...]
    prefixes: tuple[str, ...]
    next_token: str


def page(
    objects: Iterable[StoredObject],
    *,
    prefix: str = "",
    delimiter: str = "",
    start: str = "",
    end: str = "",
    glob: str = "",
    has_trailing_delimiter: bool = False,
    max_results: int | None = None,
    token: str = "",
) -> Page:
    """Returns one page.

    Args:
        start: First name that may appear; likewise `end`, the first that may not ("" is no limit).
        glob: Names and prefixes must match it; `*` stops at "/", `**` does not.
        has_trailing_delimiter: Show `a/` also as an object where it is one.
        max_results: Of objects and prefixes together; 1,000 where it is not given or larger.
        token: `next_token` of the page before.
    """
    limit = min(max_results or MAX_RESULTS, MAX_RESULTS)
    wanted = re.compile(glob_pattern(glob)) if glob else None
    after = _decode(token)
    items: list[StoredObject] = []
    prefixes: list[str] = []
    last = ""
    matching = sorted(
        (stored for stored in objects if stored.name.startswith(prefix) and stored.name > after),
        key=lambda stored: stored.name,
    )
    for stored in matching:
        name = stored.name
        if name < start or (end and name >= end):
            continue
        cut = name.find(delimiter, len(prefix)) if delimiter else -1
        entry = name[: cut + len(delimiter)] if cut >= 0 else name
        is_item = cut < 0 or (has_trailing_delimiter and entry == name)
        # A page that ended with a prefix goes on behind everything below it.
        is_prefix = cut >= 0 and entry != after and entry != (prefixes[-1] if prefixes else None)
        if (wanted and not wanted.fullmatch(entry)) or not (is_item or is_prefix):
            continue
        if len(items) + len(prefixes) >= limit:
            return Page(tuple(items), tuple(prefixes), _encode(last))
        if is_prefix:
            prefixes.append(entry)
        if is_item:
            items.append(stored)
        last = entry
    return Page(tuple(items), tuple(prefixes), "")


def glob_pattern(glob: str) -> str:
    """Translates a glob of Cloud Storage into a regular expression.

    `?` and `*` match no "/", `**` matches anything, `[a-z]` and `[!a]` one letter, `{a,b}` either. Without
    nesting of braces. Source: https://cloud.google.com/storage/docs/json_api/v1/objects/list#list-objects-and-prefixes-using-glob
    """
    parts = re.split(r"(\*\*/?|\*|\?|\[[^\]]+\]|\{[^{}]*\})", glob)
    pattern = ""
    for part in parts:
        if part == "**/":
            pattern += "(?:.*/)?"
        elif part == "**":
            pattern += ".*"
        elif part == "*":
            pattern += "[^/]*"
        elif part == "?":
            pattern += "[^/]"
        elif part.startswith("[") and len(part) > 2:
            inside = part[1:-1].replace("\\", "\\\\")
            pattern += f"[^{inside[1:]}]" if inside[0] in "!^" else f"[{inside}]"
        elif part.startswith("{"):
            pattern += "(?:" + "|".join(glob_pattern(choice) for choice in part[1:-1].split(",")) + ")"
        else:
            pattern += re.escape(part)
    return pattern


def _encode(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode()


def _decode(token: str) -> str:
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        raise ApiError(400, "invalid", f"Invalid page token: {token!r}") from None
