"""Uploads in parts that nobody completed: found in an S3 bucket, and ended.

A multipart upload whose writer died, or gave it up, keeps its parts, which cost as much as objects and are in no
listing of them. obstore can neither list nor end such uploads, so that the two requests are made here, signed
with version 4 of AWS's signature. That takes a secret: keys that come from an instance's or a container's role
never leave obstore, and then a lifecycle rule of the bucket has to do it (``AbortIncompleteMultipartUpload``).
"""

from __future__ import annotations

import datetime as dt
import email.utils
import hashlib
import hmac
import re
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from xml.etree.ElementTree import ParseError, fromstring

import urllib3

from fletching.errors import StorageError

if TYPE_CHECKING:
    import xml.etree.ElementTree as ET

__all__ = ["Credentials", "S3Uploads", "UnfinishedUpload", "signed_headers"]

_EMPTY_SHA256: Final = hashlib.sha256(b"").hexdigest()
_MOST_BYTES: Final = 16 << 20
_SECONDS: Final = 60.0


class Credentials(NamedTuple):
    """What requests are signed with."""

    access_id: str
    secret: str
    token: str | None = None


class UnfinishedUpload(NamedTuple):
    """An upload that was begun and not completed."""

    key: str
    """In the bucket, with the store's prefix."""
    upload_id: str
    age_seconds: float
    """Since it was begun, by the store's clock."""


def signed_headers(
    method: str,
    url: str,
    credentials: Credentials,
    region: str,
    now: dt.datetime,
) -> dict[str, str]:
    """The headers of a request without a body, signed (AWS Signature Version 4).

    Args:
        method: of the request.
        url: with its query, every name and value percent-encoded.
        credentials: whose.
        region: of the bucket.
        now: the time, in UTC.
    """
    parts = urllib.parse.urlsplit(url)
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    headers = {"host": parts.netloc, "x-amz-content-sha256": _EMPTY_SHA256, "x-amz-date": stamp}
    if credentials.token:
        headers["x-amz-security-token"] = credentials.token
    names = ";".join(sorted(headers))
    query = "&".join(
        sorted(part if "=" in part else f"{part}=" for part in parts.query.split("&") if part)
    )
    lines = [method, parts.path or "/", query]
    lines += [f"{name}:{headers[name]}" for name in sorted(headers)]
    lines += ["", names, _EMPTY_SHA256]
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    key = f"AWS4{credentials.secret}".encode()
    for word in (*scope.split("/"), f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}"):
        key = hmac.digest(key, word.encode(), "sha256")
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials.access_id}/{scope},"
        f" SignedHeaders={names}, Signature={key.hex()}"
    )
    return headers


class S3Uploads:
    """The unfinished uploads of one bucket."""

    def __init__(
        self,
        bucket_url: str,
        region: str,
        credentials: Callable[[], Credentials],
        *,
        clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        """Asks for nothing yet.

        Args:
            bucket_url: of the bucket itself, without a slash at its end.
            region: its region.
            credentials: asked for each request.
            clock: dates the signatures.
        """
        self._url = bucket_url
        self._region = region
        self._credentials = credentials
        self._clock = clock
        self._pool = urllib3.PoolManager(retries=urllib3.Retry(3, backoff_factor=0.2))

    def unfinished(self, prefix: str) -> Iterator[UnfinishedUpload]:
        """The uploads of objects whose key begins with a prefix.

        Raises:
            StorageError: the store refuses or fails.
        """
        markers: dict[str, str] = {}
        while True:
            reply = self._ask("GET", "", {"uploads": "", "prefix": prefix, **markers})
            try:
                # What a store of the operator's choice says; the parser expands no foreign entities.
                root = fromstring(reply.data)  # noqa: S314
            except ParseError as error:
                raise StorageError(f"the list of unfinished uploads is no XML: {error}") from None
            now = _date(reply.headers.get("date"))
            for each in root.iter():
                if _name(each) != "Upload":
                    continue
                result = {_name(child): child.text or "" for child in each}
                begun = _date(result.get("Initiated"))
                if now is not None and begun is not None and result.get("UploadId"):
                    age = (now - begun).total_seconds()
                    yield UnfinishedUpload(result.get("Key", ""), result["UploadId"], age)
            last = {_name(child): child.text or "" for child in root}
            if last.get("IsTruncated") != "true" or not last.get("NextKeyMarker"):
                return
            markers = {
                "key-marker": last["NextKeyMarker"],
                "upload-id-marker": last.get("NextUploadIdMarker", ""),
            }

    def end(self, upload: UnfinishedUpload) -> None:
        """Gives an upload up, and its parts; nothing if it is gone.

        Raises:
            StorageError: the store refuses or fails.
        """
        self._ask("DELETE", upload.key, {"uploadId": upload.upload_id}, missing=True)

    def _ask(
        self, method: str, key: str, query: Mapping[str, str], *, missing: bool = False
    ) -> Any:
        path = f"/{urllib.parse.quote(key, safe='/-_.~')}" if key else ""
        text = "&".join(
            f"{name}={urllib.parse.quote(value, safe='-_.~')}"
            for name, value in sorted(query.items())
        )
        url = f"{self._url}{path}?{text}"
        headers = signed_headers(method, url, self._credentials(), self._region, self._clock())
        try:
            reply = self._pool.request(
                method,
                url,
                headers=headers,
                timeout=_SECONDS,
                redirect=False,
                preload_content=False,
            )
            try:
                data = reply.read(_MOST_BYTES + 1)
            finally:
                reply.release_conn()
        except urllib3.exceptions.HTTPError as error:
            raise StorageError(f"unfinished uploads cannot be asked for: {error}") from error
        if len(data) > _MOST_BYTES:
            raise StorageError("the list of unfinished uploads is too long")
        if reply.status >= 300 and not (missing and reply.status == 404):
            code = re.search(rb"<Code>([A-Za-z0-9]{1,60})</Code>", data)
            reason = code[1].decode() if code else f"status {reply.status}"
            raise StorageError(f"the object store refused to tell of unfinished uploads: {reason}")
        return _Answer(data, reply.headers)


class _Answer(NamedTuple):
    data: bytes
    headers: Mapping[str, str]


def _name(element: ET.Element) -> str:
    """An element's name without its namespace: stores differ in that."""
    return str(element.tag).rpartition("}")[2]


def _date(text: str | None) -> dt.datetime | None:
    if not text:
        return None
    try:
        result = (
            dt.datetime.fromisoformat(text)
            if text[:1].isdigit()
            else email.utils.parsedate_to_datetime(text)
        )
    except ValueError:
        return None
    return result if result.tzinfo else result.replace(tzinfo=dt.UTC)
