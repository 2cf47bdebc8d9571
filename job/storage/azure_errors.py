"""What Azure's libraries raise, in the job's own errors."""

from __future__ import annotations

from pathlib import Path

import requests
import urllib3
from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError

from job.errors import AccessError, JobError
from job.storage import disk
from job.storage.conditional import UploadLostError
from job.storage.retry import PassingError, from_status

LOGIN = (
    "Set AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_KEY, or "
    "AZURE_STORAGE_CONNECTION_STRING; or log in with `az login`, or give the machine or pod an identity, with the role "
    "Storage Blob Data Contributor."
)


def translate(error: Exception, uri: str) -> Exception:
    """Returns the job's error, or PassingError, for whatever Azure's libraries raised about `uri`."""
    if isinstance(error, HttpResponseError) and (error.status_code or 0) >= 300:
        return _of_answer(error, uri)
    if isinstance(error, ClientAuthenticationError):  # of azure.identity, without an answer of the storage service
        return AccessError(f"no usable credentials for {uri}: {error.message}", next_step=LOGIN)
    if isinstance(error, AzureError) and "MD5 mismatch" in error.message:
        return PassingError(f"the content came damaged: {error.message}")
    if isinstance(error, (AzureError, requests.exceptions.RequestException, urllib3.exceptions.HTTPError)):
        return PassingError(f"{type(error).__name__}: {error}")
    if isinstance(error, OSError):
        return disk.translate(error, uri, Path.cwd())
    return JobError(f"{uri}: unforeseen {type(error).__name__}: {error}")


def _of_answer(error: HttpResponseError, uri: str) -> Exception:
    code = getattr(error, "error_code", None) or ""
    code = str(getattr(code, "value", code))
    said = f"{code}: {error.message}"
    if code == "InvalidBlockList":
        return UploadLostError(f"the blocks of {uri} are gone ({said})", next_step="Start the job again.")
    headers = getattr(error.response, "headers", {})
    return from_status(error.status_code or 0, uri, said, retry_after=headers.get("Retry-After", ""), login=LOGIN)
