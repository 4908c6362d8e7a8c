"""An S3 bucket over a local folder that costs next to nothing: what is measured with it is what is around it.

A store with a data path of its own needs the processor that reads are measured on. This one sends mapped files
(over the loopback ``sendfile`` costs whoever receives twice as much, for it gets single pages), believes every signature, and knows what our store asks
for: whole puts (with ``If-None-Match``), uploads in parts, ranges, lists, deletes. Not for anything else.
"""

from __future__ import annotations

import email.utils
import hashlib
import http.server
import json
import mmap
import re
import shutil
import threading
import urllib.parse
from http import HTTPStatus
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, unescape

__all__ = ["BUCKET", "COUNTS_PATH", "BucketServer"]

BUCKET = "bench"
SEND_BYTES = 1 << 20
COUNTS_PATH = "/_counts"
"""Answers how many objects were asked for, and how many bytes of them were sent, as JSON."""

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class BucketServer(http.server.ThreadingHTTPServer):
    """Serves a folder on a free port of 127.0.0.1.

    Attributes:
        requests: GETs of objects so far.
        sent: bytes of objects sent so far.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, folder: Path) -> None:
        """Serves nothing yet; see ``serve_forever``."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects = folder / "objects"
        self.parts = folder / "parts"
        for each in (self.objects, self.parts):
            each.mkdir(parents=True, exist_ok=True)
        self.requests = self.sent = 0
        self.lock = threading.Lock()
        self._mapped: dict[tuple[int, int], memoryview] = {}

    def content(self, path: Path) -> memoryview:
        """The bytes of an object, mapped; a mapping is kept, since making the pages of one known costs as
        much as sending them."""
        status = path.stat()
        identity = (status.st_ino, status.st_mtime_ns)
        with self.lock:
            found = self._mapped.get(identity)
            if found is None:
                if not status.st_size:
                    return memoryview(b"")
                with path.open("rb") as file:
                    mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
                found = self._mapped[identity] = memoryview(mapped)
            return found

    @property
    def url(self) -> str:
        """Where it speaks."""
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: BucketServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: Any) -> None:
        """Says nothing."""

    def _parse(self) -> tuple[Path, dict[str, str]]:
        parts = urllib.parse.urlsplit(self.path)
        key = urllib.parse.unquote(parts.path).removeprefix(f"/{BUCKET}").strip("/")
        query = dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True))
        return self.server.objects / key, query

    def _answer(
        self, status: HTTPStatus, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if not headers or "content-length" not in headers:
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _facts(self, path: Path, length: int) -> dict[str, str]:
        status = path.stat()
        return {
            "content-length": str(length),
            "etag": f'"{status.st_ino:x}-{status.st_mtime_ns:x}"',
            "last-modified": email.utils.formatdate(status.st_mtime, usegmt=True),
            "accept-ranges": "bytes",
        }

    def do_HEAD(self) -> None:
        """Tells of an object."""
        path, _ = self._parse()
        if path.is_file():
            self._answer(HTTPStatus.OK, headers=self._facts(path, path.stat().st_size))
        else:
            self._answer(HTTPStatus.NOT_FOUND)

    def do_GET(self) -> None:
        """Sends an object, or a range of it; or lists."""
        path, query = self._parse()
        if self.path == COUNTS_PATH:
            counts = {"requests": self.server.requests, "sent": self.server.sent}
            self._answer(HTTPStatus.OK, json.dumps(counts).encode())
            return
        if "list-type" in query:
            self._list(query.get("prefix", ""))
            return
        if not path.is_file():
            self._answer(HTTPStatus.NOT_FOUND)
            return
        size = path.stat().st_size
        wanted = _RANGE.fullmatch(self.headers.get("range", ""))
        start, end = 0, size
        if wanted is not None:
            start = int(wanted[1])
            end = min(int(wanted[2]) + 1 if wanted[2] else size, size)
        with self.server.lock:
            self.server.requests += 1
            self.server.sent += end - start
        self.send_response(HTTPStatus.OK if wanted is None else HTTPStatus.PARTIAL_CONTENT)
        for name, value in self._facts(path, end - start).items():
            self.send_header(name, value)
        if wanted is not None:
            self.send_header("content-range", f"bytes {start}-{end - 1}/{size}")
        self.end_headers()
        content = self.server.content(path)
        for position in range(start, end, SEND_BYTES):
            self.connection.sendall(content[position : min(position + SEND_BYTES, end)])

    def _list(self, prefix: str) -> None:
        root = self.server.objects
        found = sorted(path for path in root.rglob("*") if path.is_file())
        lines = ["<ListBucketResult><IsTruncated>false</IsTruncated>"]
        for path in found:
            key = path.relative_to(root).as_posix()
            if key.startswith(prefix):
                facts = self._facts(path, path.stat().st_size)
                lines.append(
                    f"<Contents><Key>{escape(key)}</Key><Size>{facts['content-length']}</Size>"
                    f"<LastModified>2026-01-01T00:00:00.000Z</LastModified>"
                    f"<ETag>{escape(facts['etag'])}</ETag></Contents>"
                )
        self._answer(HTTPStatus.OK, "".join([*lines, "</ListBucketResult>"]).encode())

    def _body(self, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        left = int(self.headers.get("content-length", 0))
        with target.open("wb") as file:
            while left:
                data = self.rfile.read(min(left, 1 << 20))
                if not data:
                    raise ConnectionError("the body is cut")
                file.write(data)
                left -= len(data)

    def do_PUT(self) -> None:
        """Stores an object, or a part of one."""
        path, query = self._parse()
        if "partNumber" in query:
            self._body(self.server.parts / query["uploadId"] / f"{int(query['partNumber']):06d}")
        else:
            new = self.server.parts / f"{threading.get_ident():x}"
            self._body(new)
            with self.server.lock:
                if self.headers.get("if-none-match") == "*" and path.exists():
                    self._answer(HTTPStatus.PRECONDITION_FAILED)
                    return
                path.parent.mkdir(parents=True, exist_ok=True)
                new.rename(path)
        self._answer(HTTPStatus.OK, headers={"etag": '"stored"', "content-length": "0"})

    def do_POST(self) -> None:
        """Begins an upload in parts, or completes one; or removes objects."""
        path, query = self._parse()
        body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
        if "delete" in query:
            keys = re.findall(r"<Key>([^<]*)</Key>", body)
            for key in keys:
                (self.server.objects / unescape(key)).unlink(missing_ok=True)
            gone = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
            self._answer(HTTPStatus.OK, f"<DeleteResult>{gone}</DeleteResult>".encode())
            return
        if "uploads" in query:
            name = hashlib.sha256(self.path.encode()).hexdigest()[:16]
            reply = f"<InitiateMultipartUploadResult><Bucket>{BUCKET}</Bucket><Key>k</Key>"
            reply += f"<UploadId>{name}</UploadId></InitiateMultipartUploadResult>"
            self._answer(HTTPStatus.OK, reply.encode())
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = self.server.parts / query["uploadId"]
        with path.open("wb") as out:
            for part in sorted(folder.iterdir()):
                with part.open("rb") as source:
                    shutil.copyfileobj(source, out, 1 << 20)
        shutil.rmtree(folder)
        reply = (
            "<CompleteMultipartUploadResult><Location>x</Location><Bucket>b</Bucket><Key>k</Key>"
        )
        self._answer(
            HTTPStatus.OK,
            (reply + '<ETag>"stored"</ETag></CompleteMultipartUploadResult>').encode(),
        )

    def do_DELETE(self) -> None:
        """Removes an object."""
        path, _ = self._parse()
        path.unlink(missing_ok=True)
        self._answer(HTTPStatus.NO_CONTENT)
