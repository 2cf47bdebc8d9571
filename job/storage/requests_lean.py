"""`requests` and google.auth's transport over it, without the guessing of text's encoding that nobody here asks for.

The tables of charset_normalizer are 3 MB of memory. Where they are not there, `requests` takes text for UTF-8 where a
server does not say what it is, and warns of it once, at its import.
"""

from __future__ import annotations

import warnings

from job.storage.absent import absent

with absent("chardet", "charset_normalizer"), warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import google.auth.transport.requests as transport
    import requests

__all__ = ["requests", "transport"]
