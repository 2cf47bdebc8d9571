"""Secrets are taken out of every text that leaves the process: lines, events, errors, files of the run.

Each border calls `masked` (or `masked_tree`) itself: `JobError`, the console, `config.to_yaml`, `Workspace.write`, the
ledger of a pull; `guard` covers what reaches stdout and stderr by other ways (tracebacks, usage errors, warnings).
What is masked: passwords in URIs, queries that hold a signature, authorization headers, tokens and keys of the known
forms, and the values of environment variables that are named like secrets. Masking twice changes nothing more.

Sources: Cloud Storage "Signed URLs", S3 "Authenticating Requests: Query Parameters", Azure "Create an account SAS",
IAM "Unique identifiers" (AKIA, ASIA), RFC 7519 (eyJ), RFC 7468 (PRIVATE KEY).
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from typing import IO, Any

MASK = "***"

# In a message a query may be encoded once more.
_START = r"(?:(?<![A-Za-z0-9_-])|(?<=%3F)|(?<=%26))"
_SIGNED = (
    r"(?:X-(?:Goog|Amz)-(?:Signature|Credential|Security-Token)|AWSAccessKeyId|GoogleAccessId|Signature|sig|"
    r"access_token|id_token|refresh_token|client_secret|api_key|password)(?:=|%3D)"
)
_KEYS = "AccountKey|SharedAccessSignature|aws_secret_access_key|aws_session_token"
_PATTERNS = (
    # A signed query is masked whole: its dates change when it is signed again, and it still names the same thing.
    (rf"\?(?=[^\s\"'<>]*{_START}{_SIGNED})[^\s\"'<>,;()\[\]{{}}\\]*", rf"?{MASK}"),
    (rf"{_START}({_SIGNED})[^\s\"'<>,;()\[\]{{}}\\&]+", rf"\1{MASK}"),
    # From the first letter of a scheme on: begun at each of its letters, a picture in base64 took most of a second.
    (r"((?<![A-Za-z0-9+.-])[A-Za-z0-9+.-]++:/{1,2})[^\s/\"'<>@:?]*:[^\s/\"'<>@]+@", rf"\1{MASK}@"),
    (r"(authorization[\"']?+\s*+[:=]\s*+[\"']?+)(?!\*)[^\"'\r\n]+", rf"\1{MASK}"),
    (r"\b((?:Bearer|SharedKey(?:Lite)?|AWS4-HMAC-SHA256)\s++)(?!\*)[A-Za-z0-9._~+/:=,\- ]{8,}", rf"\1{MASK}"),
    (rf"\b((?:{_KEYS})\s*=\s*)[^\s;\"'<>]+", rf"\1{MASK}"),
    (r"\bya29\.[\w.-]+", MASK),
    (r"(?-i:\b(?:AKIA|ASIA)[A-Z0-9]{16}\b)", MASK),
    (r"(?-i:\beyJ)[\w-]{8,}\.[\w-]+\.[\w-]*", MASK),
    (r"-----BEGIN ([A-Z ]*)PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", MASK),
)
_RULES = tuple((re.compile(pattern, re.IGNORECASE | re.DOTALL), mask) for pattern, mask in _PATTERNS)
_NAMED = re.compile(r"(?:SECRET|TOKEN|PASSWORD|PASSWD|(?:ACCESS|ACCOUNT|SAS|API|PRIVATE)_KEY|CONNECTION_STRING)$")
_SHORTEST = 8
"""Characters of an environment's secret: a shorter one would be found inside of ordinary words."""


def masked(text: str, *, environ: Mapping[str, str] | None = None) -> str:
    """Returns `text` with `***` in place of every secret.

    Args:
        environ: Whose secrets are masked wherever they stand; None is the process's own.
    """
    for secret in _secrets(os.environ if environ is None else environ):
        text = text.replace(secret, MASK)
    for pattern, mask in _RULES:
        text = pattern.sub(mask, text)
    return text


def masked_tree(value: Any) -> Any:
    """Returns a tree of mappings and lists with all of its strings masked; other values as they are."""
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, Mapping):
        return {key: masked_tree(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [masked_tree(each) for each in value]
    return value


def guard() -> None:
    """Masks whatever is written to stdout and stderr from now on."""
    if not isinstance(sys.stdout, _Guarded):
        sys.stdout = _Guarded(sys.stdout)
        sys.stderr = _Guarded(sys.stderr)


class _Guarded:
    """A text stream that masks; everything but writing is the stream's own."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(masked(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _secrets(environ: Mapping[str, str]) -> list[str]:
    """Returns the values of the variables that are named like secrets, longest first: one may contain another."""
    found = {value for name, value in environ.items() if _NAMED.search(name.upper()) and len(value) >= _SHORTEST}
    return sorted(found, key=len, reverse=True)
