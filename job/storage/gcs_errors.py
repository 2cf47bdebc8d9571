"""What Google's libraries raise, in the job's own errors."""

from __future__ import annotations

import http.client
import json
from pathlib import Path

import google.auth.exceptions
import urllib3

from job.errors import AccessError, JobError
from job.storage import disk
from job.storage.absent import absent
from job.storage.gcs_media import StatusError
from job.storage.requests_lean import requests
from job.storage.retry import PassingError, from_status

# google.api_core takes gRPC where it finds it, and TensorFlow installs it: 11 MB of memory and 0.3 s of processor
# time for nothing, since what is used here speaks HTTP.
with absent("grpc"):
    from google.api_core import exceptions as api

LOGIN = (
    "Log in: `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS to a key file, or bind "
    "a service account to the machine (Workload Identity); it needs roles/storage.objectUser on the bucket."
)
_PASSING = (
    requests.exceptions.ConnectionError,
    requests.exceptions.Timeout,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
    urllib3.exceptions.HTTPError,
    google.auth.exceptions.TransportError,
    http.client.HTTPException,
    ConnectionError,
    TimeoutError,
    json.JSONDecodeError,  # an answer cut short, after the object was stored
)


def translate(error: Exception, uri: str) -> Exception:
    """Returns the job's error for whatever Google's libraries raised about `uri`."""
    if isinstance(error, StatusError):
        return from_status(error.status, uri, error.reason, retry_after=error.retry_after, login=LOGIN)
    response = getattr(error, "response", None)
    status = error.code if isinstance(error, api.GoogleAPICallError) else getattr(response, "status_code", None)
    if status is not None and int(status) >= 300:  # also the storage client's InvalidResponse
        headers = getattr(response, "headers", {})
        return from_status(int(status), uri, str(error), retry_after=headers.get("Retry-After", ""), login=LOGIN)
    if status is not None:  # the storage client's DataCorruption: an answer of 200 that is wrong
        return PassingError(f"{type(error).__name__}: {error}")
    if isinstance(error, api.RetryError):
        return PassingError(f"gave up an upload session: {error.cause or error}")
    if isinstance(error, _PASSING):
        return PassingError(f"{type(error).__name__}: {error}")
    if isinstance(error, google.auth.exceptions.GoogleAuthError):
        if getattr(error, "retryable", False):  # the metadata server may be late at a pod's start
            return PassingError(f"{type(error).__name__}: {error}")
        return AccessError(f"no usable Google credentials for {uri}: {error}", next_step=LOGIN)
    if isinstance(error, OSError):
        return disk.translate(error, uri, Path.cwd())
    return JobError(f"{uri}: unforeseen {type(error).__name__}: {error}")
