"""What botocore raises, in the job's own errors."""

from __future__ import annotations

from pathlib import Path

import urllib3
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from job.errors import AccessError, ConfigError, JobError
from job.storage import disk
from job.storage.conditional import UploadLostError
from job.storage.retry import PassingError, from_status

LOGIN = (
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_REGION), or AWS_PROFILE for one of ~/.aws, or give the "
    "machine or pod an IAM role with s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject."
)
_NO_CREDENTIALS = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.ProfileNotFound,
    boto.NoAuthTokenError,
    boto.TokenRetrievalError,
    boto.SSOError,
)
_PASSING = (
    boto.ConnectionError,
    boto.HTTPClientError,
    boto.IncompleteReadError,
    ResponseParserError,
    urllib3.exceptions.HTTPError,
)


def translate(error: Exception, uri: str) -> Exception:
    """Returns the job's error, or PassingError, for whatever botocore raised about `uri`."""
    if isinstance(error, boto.ClientError):
        return _of_answer(error, uri)
    if isinstance(error, _NO_CREDENTIALS):
        return AccessError(f"no usable credentials for {uri}: {error}", next_step=LOGIN)
    if isinstance(error, _PASSING):
        return PassingError(f"{type(error).__name__}: {error}")
    if isinstance(error, boto.BotoCoreError):  # a region or a bucket that cannot be one
        return ConfigError(f"{uri} cannot be used: {error}", next_step="Check the URI and the AWS_* variables.")
    if isinstance(error, OSError):
        return disk.translate(error, uri, Path.cwd())
    return JobError(f"{uri}: unforeseen {type(error).__name__}: {error}")


def status_of(error: boto.ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def code_of(error: boto.ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _of_answer(error: boto.ClientError, uri: str) -> Exception:
    status, code = status_of(error), code_of(error)
    said = f"{code}: {error.response.get('Error', {}).get('Message', '')}"
    if code == "NoSuchUpload":
        return UploadLostError(f"the parts of {uri} are gone ({said})", next_step="Start the job again.")
    if code == "RequestTimeout":  # a 400
        return PassingError(f"HTTP {status}: {said}")
    if code in ("ExpiredToken", "InvalidToken", "TokenRefreshRequired"):  # likewise
        return from_status(401, uri, said, login=LOGIN)
    if status in (301, 307):
        return ConfigError(f"{uri} is in another region (HTTP {status})", next_step="Set AWS_REGION to the bucket's.")
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return from_status(status, uri, said, retry_after=headers.get("retry-after", ""), login=LOGIN)
