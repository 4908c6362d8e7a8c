from __future__ import annotations

import datetime as dt
import http.client
import ipaddress
import socket
import ssl
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.server.conftest import ACCESS_ID, SECRET, Query, RawClient, Start, stream_of


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for 127.0.0.1 that signs itself, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "fletching test")])
    now = dt.datetime.now(dt.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "server.pem"
    path.write_bytes(
        signed.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


def test_tables_travel_over_tls(start: Start, certificate: Path) -> None:
    server = start(tls_certificate=str(certificate))
    assert server.url == f"https://127.0.0.1:{server.port}"
    trust = ssl.create_default_context(cafile=str(certificate))

    class TlsClient(RawClient):
        def connect(self) -> http.client.HTTPConnection:
            return http.client.HTTPSConnection(self.netloc, timeout=600, context=trust)

    client = TlsClient(server.url)
    table = pa.table({"a": np.arange(500_000), "b": np.linspace(0, 1, 500_000)})
    client.create_table("t", table.schema)
    client.append(stream_of(table, batch_rows=100_000))
    assert pa.ipc.open_stream(client.read().body).read_all().equals(table)
    # An early refusal of a long body, and a request after it.
    query: Query = {"Action": "TableWrite", "Target": "projects.demo.tables.t", "SessionId": "x"}
    query |= {"StreamId": "s"}
    headers = {"Content-Type": "application/octet-stream"}
    reply = client.request("POST", "/api/storage/v2", query, bytes(3 << 20), headers)
    assert reply.status == 404
    assert client.count() == table.num_rows


def test_plain_http_on_a_tls_port_gets_no_answer(start: Start, certificate: Path) -> None:
    server = start(tls_certificate=str(certificate))
    with socket.create_connection(("127.0.0.1", server.port), timeout=600) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"200" not in connection.recv(100)


def test_the_scheme_that_clients_see_is_https(start: Start, certificate: Path) -> None:
    server = start(tls_certificate=str(certificate))
    assert server.access_key == (ACCESS_ID, SECRET)
    context = ssl.create_default_context(cafile=str(certificate))
    connection = http.client.HTTPSConnection(f"127.0.0.1:{server.port}", context=context)
    connection.request("GET", "/healthz")
    assert connection.getresponse().read() == b'{"status":"ok"}'
    connection.close()
