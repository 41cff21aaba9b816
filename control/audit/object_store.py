"""Checkpoints as objects of an S3-compatible store, which may refuse to let them go for years."""

import base64
import io
from collections.abc import Iterator
from datetime import timedelta
from hashlib import sha256
from typing import Final

import urllib3
from minio import Minio
from minio.commonconfig import COMPLIANCE
from minio.error import MinioException
from minio.retention import Retention

from shared.errors import Invalid, Unavailable
from shared.messaging.events import utc_now
from shared.settings import Settings

CONNECT_SECONDS_MAX: Final = 5
ANSWER_SECONDS_MAX: Final = 30
RETRY_AFTER_SECONDS: Final = 60.0
# A checkpoint has some 120 bytes for each organization.
OBJECT_BYTES_MAX: Final = 64 * 1024 * 1024
_FAILURES: Final = (MinioException, urllib3.exceptions.HTTPError, OSError)


class ObjectStore:
    """One bucket; its calls block."""

    def __init__(self, settings: Settings) -> None:
        if not settings.audit_s3_bucket:
            raise Invalid("AUDIT_S3_ENDPOINT needs AUDIT_S3_BUCKET")
        address, is_tls = _address_of(settings.audit_s3_endpoint)
        self._client = Minio(
            endpoint=address,
            access_key=settings.audit_s3_access_key or None,
            secret_key=settings.audit_s3_secret_key or None,
            secure=is_tls,
            region=settings.audit_s3_region,
            http_client=urllib3.PoolManager(
                timeout=urllib3.Timeout(connect=CONNECT_SECONDS_MAX, read=ANSWER_SECONDS_MAX),
                retries=False,
            ),
        )
        self._bucket = settings.audit_s3_bucket
        self._prefix = settings.audit_s3_prefix.strip("/")
        self._retention_days = settings.audit_s3_retention_days

    def put(self, name: str, line: bytes) -> None:
        """Keep *line*, under a lock when AUDIT_S3_RETENTION_DAYS is set; Unavailable otherwise."""
        retention = None
        if self._retention_days:
            until = utc_now() + timedelta(days=self._retention_days)
            retention = Retention(COMPLIANCE, until)
        try:
            self._client.put_object(
                bucket_name=self._bucket,
                object_name=f"{self._prefix}/{name}",
                data=io.BytesIO(line),
                length=len(line),
                content_type="application/json",
                # What is locked must come with a checksum.
                metadata={
                    "x-amz-sdk-checksum-algorithm": "SHA256",
                    "x-amz-checksum-sha256": base64.b64encode(sha256(line).digest()).decode(),
                },
                retention=retention,
            )
        except _FAILURES as error:
            raise _unavailable(error) from error

    def lines(self) -> Iterator[tuple[str, bytes]]:
        """All checkpoints with their names, the oldest first: names sort by time."""
        try:
            found = self._client.list_objects(
                bucket_name=self._bucket, prefix=f"{self._prefix}/", recursive=True
            )
            for one in found:
                if one.object_name is not None:
                    yield one.object_name, self._content(one.object_name)
        except _FAILURES as error:
            raise _unavailable(error) from error

    def _content(self, name: str) -> bytes:
        answer = self._client.get_object(bucket_name=self._bucket, object_name=name)
        try:
            return answer.read(OBJECT_BYTES_MAX)
        finally:
            answer.close()
            answer.release_conn()


def _address_of(endpoint: str) -> tuple[str, bool]:
    scheme, separator, address = endpoint.partition("://")
    if not separator or scheme not in ("http", "https") or "/" in address.strip("/"):
        raise Invalid("AUDIT_S3_ENDPOINT is http:// or https:// with a host, and maybe a port")
    return address.strip("/"), scheme == "https"


def _unavailable(error: Exception) -> Unavailable:
    code = getattr(error, "code", None) or type(error).__name__
    return Unavailable(
        f"the store of checkpoints does not answer as it should ({code}): check AUDIT_S3_*",
        retry_after_seconds=RETRY_AFTER_SECONDS,
    )
