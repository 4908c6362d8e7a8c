"""The contract of object stores over the stores that are meant: S3 as SeaweedFS speaks it, Azure as Azurite does.

Google Cloud Storage has no emulator that could be used: obstore speaks its XML interface, with a condition
in each put and uploads in parts, which none of those to be had understands. A stand-in of our own proves our
side: `tests.google_bucket`. It checks no signature.
"""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.azurite import AzuriteServer
from tests.google_bucket import BUCKET, PAGE, GoogleBucket
from tests.seaweedfs import ObjectStorage

import fletching
from fletching import faultpoints
from fletching.errors import ObjectExistsError, StorageError
from fletching.objects.remote_store import BUFFERED_BYTES, RemoteStore
from fletching.objects.store import writer_of
from fletching.testing.contracts import ObjectStoreContract, put

pytest.importorskip("obstore")


class RemoteContract(ObjectStoreContract):
    """What is true of every store that is reached over a network."""

    def test_delete_is_idempotent(self, store: Any) -> None:
        """As the contract, but ranges that are read after a delete are gone: nothing is mapped."""
        put(store, "a/b", b"abc")
        view = store.open("a/b").view(0, 3)
        store.delete("a/b")
        store.delete("a/b")
        assert bytes(view) == b"abc"
        assert list(store.list()) == []

    def test_whoever_has_the_url_reads_a_range(self, store: Any) -> None:
        """By plain HTTP, and of that object alone."""
        put(store, "a/b", b"abcdef")
        put(store, "a/c", b"secret")
        (url,) = store.sign(["a/b"], 60)
        ranged = urllib.request.Request(url, headers={"range": "bytes=2-3"})
        with urllib.request.urlopen(ranged) as reply:
            assert (reply.status, reply.read()) == (206, b"cd")
        other = url.replace("a/b", "a/c").replace("a%2Fb", "a%2Fc")
        assert other != url
        with pytest.raises(OSError, match="403"):
            urllib.request.urlopen(other)

    def test_whoever_completes_beside_a_claim_is_refused(
        self, store: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A second upload that is completed while a first one is being completed."""
        first, second = store.create("t/k"), store.create("t/k")
        first.write(bytes(BUFFERED_BYTES + 1))
        second.write(bytes(BUFFERED_BYTES + 2))
        reached, go_on = threading.Event(), threading.Event()

        def wait(name: str) -> None:
            if name == "object.claimed":
                reached.set()
                assert go_on.wait(600)

        monkeypatch.setattr(faultpoints, "reach", wait)
        completing = threading.Thread(target=first.commit)
        completing.start()
        try:
            assert reached.wait(600)
            with pytest.raises(ObjectExistsError) as caught:
                second.commit()
            assert caught.value.key == "t/k"
        finally:
            go_on.set()
            completing.join()
        assert store.open("t/k").length == BUFFERED_BYTES + 1

    def test_what_a_dead_owner_claimed_stays_claimed_and_is_its_orphan(
        self, store: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nobody knows whether its upload is still to be completed."""
        key = f"tables/t/{store.writer}-1.arrow"

        def die(name: str) -> None:
            if name == "object.claimed":
                raise StorageError("it died")

        sink = store.create(key)
        sink.write(bytes(BUFFERED_BYTES + 1))
        with monkeypatch.context() as patch:
            patch.setattr(faultpoints, "reach", die)
            with pytest.raises(StorageError, match="it died"):
                sink.commit()
        (left,) = store.list()
        assert left.key == f"{key}.claim"
        assert writer_of(left.key) == store.writer
        again = store.create(key)
        again.write(bytes(BUFFERED_BYTES + 1))
        with pytest.raises(ObjectExistsError):
            again.commit()


class TestS3(RemoteContract):
    @pytest.fixture
    def store(self, s3: ObjectStorage) -> Iterator[Any]:
        store = RemoteStore(s3.create())
        yield store
        store.close()


@pytest.mark.cluster
class TestAzure(RemoteContract):
    @pytest.fixture
    def store(self, azure: AzuriteServer) -> Iterator[Any]:
        store = RemoteStore(azure.create())
        yield store
        store.close()


class TestGoogle(RemoteContract):
    @pytest.fixture
    def store(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
        bucket = GoogleBucket()
        monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", bucket.account)
        monkeypatch.setenv("GOOGLE_ALLOW_HTTP", "true")
        store = RemoteStore(f"gs://{BUCKET}/data")
        yield store
        store.close()
        bucket.close()

    test_whoever_has_the_url_reads_a_range = None  # type: ignore[assignment]  # there is no key to sign with

    def test_a_listing_of_several_pages(self, store: Any) -> None:
        keys = [f"t/{number:03d}" for number in range(2 * PAGE + 1)]
        for key in keys:
            put(store, key, b"x")
        assert [each.key for each in store.list("t/")] == keys


def test_a_data_set_in_google(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bucket = GoogleBucket()
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", bucket.account)
    monkeypatch.setenv("GOOGLE_ALLOW_HTTP", "true")
    data = pa.table({"n": range(2_000_000), "m": range(2_000_000)})
    with fletching.connect(tmp_path / "data", create=True, objects=f"gs://{BUCKET}/data") as client:
        table = client.create_table("t", data)
        assert table.to_table().equals(data)
        assert table.scan(["m"]).to_table().equals(data.select(["m"]))
    assert any(len(kept) > BUFFERED_BYTES for kept, _ in bucket.objects.values())
    assert not bucket.uploads
    bucket.close()


@pytest.mark.cluster
def test_a_listing_has_all_pages(s3: ObjectStorage) -> None:
    store = RemoteStore(s3.create())
    keys = [f"tables/t/{number:05d}" for number in range(1_100)]
    for key in keys:
        put(store, key, b"x")
    assert [each.key for each in store.list("tables/t/")] == keys
    for key in keys[::2]:
        store.delete(key)
    assert [each.key for each in store.list()] == keys[1::2]


@pytest.mark.cluster
def test_a_data_set_in_azure(azure: AzuriteServer, tmp_path: Path) -> None:
    """Written, projected, read past the service by signed URLs, and proven."""
    container = azure.create()
    data = pa.table({"n": range(2_000_000), "m": range(2_000_000)})
    with (
        fletching.serve(
            tmp_path / "data", port=0, objects=container, access_keys={"a": "b"}
        ) as server,
        fletching.connect(server.url, access_id="a", access_key="b") as client,
    ):
        table = client.create_table("t", data)
        assert table.to_table().equals(data)
        assert table.scan(["m"]).to_table().equals(data.select(["m"]))
        direct = table.scan().with_options(direct="auto").to_table()
        assert direct.equals(data)
        assert client.table("t").count_rows() == data.num_rows
