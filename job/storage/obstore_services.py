"""The services that obstore reaches: credentials and endpoints from the environment, patience from the policy."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING

from obstore import exceptions as foreign
from obstore.store import AzureStore, S3Store

from job.storage.obstore_errors import unusable
from job.storage.obstore_store import ObstoreStore
from job.storage.retry import Policy

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

_S3_LOGIN = (
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_REGION), or give the machine or pod an IAM role "
    "with s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject. Profiles are not read: "
    "`aws configure export-credentials --format env` prints one as variables."
)
_AZURE_LOGIN = (
    "Set AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_KEY, or give the machine or "
    "pod an identity with the role Storage Blob Data Contributor."
)


def s3(uri: str, bucket: str, prefix: str, *, policy: Policy | None = None) -> ObstoreStore:
    """Returns the store of `s3://bucket/prefix`; AWS_ENDPOINT_URL and its kin choose another service."""
    policy = policy or Policy()
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
    # With KMS or customer keys the ETag has 32 digits and is no MD5 (S3 API reference, "Object" data type).
    has_md5 = os.environ.get("AWS_SERVER_SIDE_ENCRYPTION", "AES256") == "AES256"
    try:
        client = S3Store(bucket, client_options=_client_options(policy, endpoint), retry_config=_retry_config(policy))
    except (foreign.BaseError, ValueError) as error:
        raise unusable(uri, error, _S3_LOGIN) from error
    return ObstoreStore(uri, client, prefix, has_md5=has_md5, login=_S3_LOGIN, policy=policy)


def azure(uri: str, container: str, prefix: str, *, policy: Policy | None = None) -> ObstoreStore:
    """Returns the store of `az://container/prefix` in the account that the environment names."""
    policy = policy or Policy()
    endpoint = os.environ.get("AZURE_STORAGE_ENDPOINT", "")
    try:
        client = AzureStore(
            container, client_options=_client_options(policy, endpoint), retry_config=_retry_config(policy)
        )
    except (foreign.BaseError, ValueError) as error:
        raise unusable(uri, error, _AZURE_LOGIN) from error
    return ObstoreStore(uri, client, prefix, has_md5=False, login=_AZURE_LOGIN, policy=policy)


def _client_options(policy: Policy, endpoint: str) -> ClientConfig:
    # Given options hide the ..._ALLOW_HTTP variables (measured), and an http:// endpoint says it already.
    allow_http = endpoint.startswith("http://") or any(
        os.environ.get(name, "").lower() in ("1", "true") for name in ("AWS_ALLOW_HTTP", "AZURE_ALLOW_HTTP")
    )
    return {
        "allow_http": allow_http,
        "connect_timeout": timedelta(seconds=policy.connect_timeout_s),
        "read_timeout": timedelta(seconds=6 * policy.progress_timeout_s),  # a service may think about a last part
        "timeout": timedelta(hours=1),  # of a whole body; 30 s unless set, too short for a large one
    }


def _retry_config(policy: Policy) -> RetryConfig:
    """Two quick tries inside obstore, which can resume a body or one part; the patience is `Retrier`'s."""
    wait = timedelta(seconds=max(policy.first_wait_s, 0.001))  # at 0 the client panics
    return {
        "max_retries": 2,
        "backoff": {"init_backoff": wait, "max_backoff": max(wait, timedelta(seconds=1)), "base": 2},
        "retry_timeout": timedelta(seconds=policy.overall_s),
    }
