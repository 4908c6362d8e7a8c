"""Uploads that nobody completed: listed and ended, by a signature that is AWS's."""

from __future__ import annotations

import datetime as dt
import gc
import time

import pytest
from tests.seaweedfs import ObjectStorage

from fletching.errors import StorageError
from fletching.objects.remote_store import BUFFERED_BYTES, RemoteStore
from fletching.objects.s3_uploads import Credentials, S3Uploads, signed_headers
from fletching.testing.replay import Answer, ReplayPeer

obstore = pytest.importorskip("obstore")


def test_the_signature_is_that_of_the_specification() -> None:
    """The example of AWS's documentation of Signature Version 4, ``GET Bucket Lifecycle``."""
    headers = signed_headers(
        "GET",
        "https://examplebucket.s3.amazonaws.com/?lifecycle",
        Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
        "us-east-1",
        dt.datetime(2013, 5, 24, tzinfo=dt.UTC),
    )
    assert headers["authorization"].endswith(
        "Signature=fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
    )
    assert "SignedHeaders=host;x-amz-content-sha256;x-amz-date" in headers["authorization"]


def test_a_token_is_signed_too() -> None:
    headers = signed_headers(
        "GET",
        "https://b.example/?uploads=",
        Credentials("a", "b", "token"),
        "r",
        dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    )
    assert headers["x-amz-security-token"] == "token"
    assert "x-amz-security-token" in headers["authorization"]


def test_what_was_given_up_is_found_and_ended(s3: ObjectStorage) -> None:
    bucket = s3.create()
    store, other = RemoteStore(bucket), RemoteStore(s3.create())
    assert store.unfinished_uploads() == []
    for name in ("tables/t/w-1", "tables/t/w-2"):
        sink = store.create(name)
        sink.write(bytes(BUFFERED_BYTES + 1))
        sink.abort()
        del sink
    gc.collect()
    deadline = time.monotonic() + 600
    unfinished = store.unfinished_uploads()
    while len(unfinished) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)  # parts that are on their way when a sink is given up arrive later
        unfinished = store.unfinished_uploads()
    assert sorted(each.key for each in unfinished) == ["tables/t/w-1", "tables/t/w-2"]
    assert all(-5 < each.age_seconds < 120 for each in unfinished)
    assert other.unfinished_uploads() == []
    with store.create("tables/t/w-3") as sink:
        sink.write(bytes(BUFFERED_BYTES + 1))
        sink.commit()
    for each in unfinished:
        store.end_upload(each)
        store.end_upload(each)
    assert store.unfinished_uploads() == []
    assert store.open("tables/t/w-3").length == BUFFERED_BYTES + 1


def test_who_may_not_ask_is_told(s3: ObjectStorage) -> None:
    wrong = S3Uploads(
        f"{s3.url}/fletching", "us-east-1", lambda: Credentials("nobody", "of this name")
    )
    with pytest.raises(StorageError, match="refused"):
        list(wrong.unfinished("x"))


def test_stores_that_are_not_s3_have_none() -> None:
    store = RemoteStore(obstore.store.MemoryStore())
    assert store.unfinished_uploads() == []


def test_keys_that_only_obstore_has(s3: ObjectStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    store = RemoteStore(s3.create())
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert store.unfinished_uploads() == []


def test_lists_of_several_pages_are_read_to_their_end() -> None:
    def page(key: str, upload: str, *, last: bool) -> Answer:
        body = (
            f"<R><IsTruncated>{'false' if last else 'true'}</IsTruncated>"
            f"<NextKeyMarker>{key}</NextKeyMarker><NextUploadIdMarker>{upload}</NextUploadIdMarker>"
            f"<Upload><Key>{key}</Key><UploadId>{upload}</UploadId>"
            "<Initiated>2026-01-01T00:00:00Z</Initiated></Upload></R>"
        )
        headers = (("date", "Thu, 01 Jan 2026 00:01:00 GMT"),)
        return Answer(body=body.encode(), headers=headers)

    answers = [
        page("a", "u1", last=False),
        page("b+c", "u2", last=False),
        page("d", "u3", last=True),
    ]
    with ReplayPeer(answers) as peer:
        uploads = S3Uploads(f"{peer.url}/bucket", "us-east-1", lambda: Credentials("id", "secret"))
        unfinished = list(uploads.unfinished("x/"))
        asked = [request.query for request in peer.requests]
    assert [tuple(each) for each in unfinished] == [
        ("a", "u1", 60),
        ("b+c", "u2", 60),
        ("d", "u3", 60),
    ]
    markers = [(each.get("key-marker"), each.get("upload-id-marker")) for each in asked]
    assert markers == [(None, None), ("a", "u1"), ("b+c", "u2")]
