"""Google Cloud Storage as its XML interface speaks, for the tests: of our own, since no emulator speaks it whole.

The emulators that there are take conditional puts and uploads in parts only through the JSON interface, which
obstore does not use, or refuse the XML one without a signature in the URL. This knows what obstore asks for, by
Google's description of the interface: puts (``x-goog-if-generation-match``), uploads in parts, ranges, lists in
pages, deletes. It believes whoever asks.
"""

from __future__ import annotations

import hashlib
import http.server
import json
import re
import threading
import urllib.parse
import uuid
from xml.sax.saxutils import escape

__all__ = ["BUCKET", "GoogleBucket"]

BUCKET = "fletching"
PAGE = 100
_DATE = "Wed, 21 Oct 2026 07:28:00 GMT"


class GoogleBucket(http.server.ThreadingHTTPServer):
    """A bucket in memory on a free port of 127.0.0.1, until ``close``.

    Attributes:
        objects: bytes and metadata of each key.
        uploads: parts of each upload that is not completed, by number.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, tuple[bytes, dict[str, str]]] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.lock = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, daemon=True)
        self._thread.start()

    @property
    def account(self) -> str:
        """A service account's key, as obstore takes it: where this is, and that nobody signs in."""
        return json.dumps(
            {
                "gcs_base_url": f"http://127.0.0.1:{self.server_port}",
                "disable_oauth": True,
                "client_email": "",
                "private_key": "",
                "private_key_id": "",
            }
        )

    def close(self) -> None:
        """Ends it."""
        self.shutdown()
        self.server_close()
        self._thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    server: GoogleBucket
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None: ...

    def _parse(self) -> tuple[str, dict[str, str]]:
        parts = urllib.parse.urlsplit(self.path)
        bucket, _, key = parts.path.lstrip("/").partition("/")
        assert urllib.parse.unquote(bucket) == BUCKET
        query = dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True))
        return urllib.parse.unquote(key), query

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def _answer(
        self, status: int, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if "content-length" not in (headers or {}):
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    @staticmethod
    def _object_headers(data: bytes, marks: dict[str, str]) -> dict[str, str]:
        headers = {"etag": f'"{hashlib.sha256(data).hexdigest()[:16]}"', "last-modified": _DATE}
        return headers | marks

    def do_PUT(self) -> None:
        key, query = self._parse()
        data = self._body()
        if "partNumber" in query:
            with self.server.lock:
                self.server.uploads[query["uploadId"]][int(query["partNumber"])] = data
            self._answer(200, headers={"etag": '"part"'})
            return
        marks = {
            name.lower(): value
            for name, value in self.headers.items()
            if name.lower().startswith("x-goog-meta-")
        }
        with self.server.lock:
            if self.headers.get("x-goog-if-generation-match") == "0" and key in self.server.objects:
                self._answer(412)
                return
            self.server.objects[key] = (data, marks)
        self._answer(200, headers={"x-goog-generation": "1", **self._object_headers(data, marks)})

    def do_POST(self) -> None:
        key, query = self._parse()
        self._body()
        root = '<?xml version="1.0" encoding="UTF-8"?>'
        if "uploads" in query:
            name = uuid.uuid4().hex
            with self.server.lock:
                self.server.uploads[name] = {}
            root += (
                f"<InitiateMultipartUploadResult><Bucket>{BUCKET}</Bucket><Key>{escape(key)}</Key>"
            )
            root += f"<UploadId>{name}</UploadId></InitiateMultipartUploadResult>"
        else:
            with self.server.lock:
                parts = self.server.uploads.pop(query["uploadId"])
                self.server.objects[key] = (b"".join(parts[n] for n in sorted(parts)), {})
            root += (
                f"<CompleteMultipartUploadResult><Bucket>{BUCKET}</Bucket><Key>{escape(key)}</Key>"
            )
            root += '<ETag>"whole"</ETag></CompleteMultipartUploadResult>'
        self._answer(200, root.encode(), {"x-goog-generation": "1"})

    def do_DELETE(self) -> None:
        key, query = self._parse()
        with self.server.lock:
            if "uploadId" in query:
                self.server.uploads.pop(query["uploadId"], None)
            elif self.server.objects.pop(key, None) is None:
                self._answer(404)
                return
        self._answer(204)

    def do_HEAD(self) -> None:
        self._send(with_body=False)

    def do_GET(self) -> None:
        key, query = self._parse()
        if not key:
            self._list(query)
        else:
            self._send(with_body=True)

    def _send(self, *, with_body: bool) -> None:
        key, _ = self._parse()
        result = self.server.objects.get(key)
        if result is None:
            self._answer(404)
            return
        data, marks = result
        headers = self._object_headers(data, marks)
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range", ""))
        if not with_body:
            self._answer(200, headers={"content-length": str(len(data)), **headers})
        elif wanted is None:
            self._answer(200, data, headers)
        else:
            start = int(wanted[1])
            part = data[start : int(wanted[2]) + 1 if wanted[2] else len(data)]
            where = f"bytes {start}-{start + len(part) - 1}/{len(data)}"
            self._answer(206, part, {"content-range": where, **headers})

    def _list(self, query: dict[str, str]) -> None:
        after = query.get("continuation-token", query.get("start-after", ""))
        prefix = query.get("prefix", "")
        keys = sorted(key for key in self.server.objects if key.startswith(prefix) and key > after)
        lines = ["<ListBucketResult>"]
        lines += [
            f"<Contents><Key>{escape(key)}</Key><Size>{len(self.server.objects[key][0])}</Size>"
            "<LastModified>2026-10-21T07:28:00.000Z</LastModified><ETag>x</ETag></Contents>"
            for key in keys[:PAGE]
        ]
        if len(keys) > PAGE:
            lines.append("<IsTruncated>true</IsTruncated>")
            lines.append(f"<NextContinuationToken>{escape(keys[PAGE - 1])}</NextContinuationToken>")
        self._answer(200, "".join([*lines, "</ListBucketResult>"]).encode())
