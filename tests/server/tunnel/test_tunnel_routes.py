"""PyODPS reads and writes tables through the tunnel, unchanged."""

from __future__ import annotations

import datetime as dt
import decimal
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from fletching.server.tunnel import instance_downloads
from fletching.server.tunnel.tunnel_routes import _instance_handler

TYPES = (
    "a bigint, b string, c double, d datetime, e timestamp, f decimal(20,4), g array<string>,"
    " h map<string,bigint>, i struct<x:bigint,y:string>, j boolean, k date, l binary, m tinyint,"
    " n smallint, o int, p float, q timestamp_ntz, r varchar(9), s char(4), t decimal(50,2)"
)
NOW = dt.datetime(2024, 1, 2, 3, 4, 5, 678000)  # noqa: DTZ001  as PyODPS gives them
ROW = [
    1,
    "x",
    2.5,
    NOW,
    pd.Timestamp("2024-01-02 03:04:05.123456789"),
    decimal.Decimal("12.3400"),
    ["a", None],
    {"k": 1, "m": None},
    (1, "z"),
    True,
    dt.date(2020, 1, 1),
    b"\x00\xff",
    -3,
    300,
    -70000,
    1.5,
    pd.Timestamp("1969-12-31 23:59:59.5"),
    "abc",
    "abcd",
    decimal.Decimal("-12345678901234567890123456789012345678901234.50"),
]
NULLS = [None] * len(ROW)


@pytest.fixture(scope="module")
def everything(odps: Any) -> Any:
    table = odps.create_table("everything", TYPES)
    odps.write_table("everything", [ROW, NULLS, ROW])
    return table


def test_records_of_every_type_come_back(odps: Any, everything: Any) -> None:
    rows = [list(record.values) for record in odps.read_table("everything")]
    assert rows == [ROW, NULLS, ROW]


@pytest.mark.parametrize("algorithm", [None, "zlib", "zstd", "lz4"])
@pytest.mark.parametrize("arrow", [False, True])
def test_every_compression(odps: Any, algorithm: str | None, arrow: bool) -> None:
    tunnel = pytest.importorskip("odps.tunnel").TableTunnel(odps)
    name = f"coded_{algorithm}_{arrow}"
    odps.create_table(name, "id bigint, s string")
    rows = [[number, "s" * number] for number in range(100)]
    session = tunnel.create_upload_session(name, compress_algo=algorithm)
    compress = algorithm is not None
    if arrow:
        with session.open_arrow_writer(0, compress=compress) as writer:
            writer.write(pd.DataFrame(rows, columns=["id", "s"]))
    else:
        with session.open_record_writer(0, compress=compress) as writer:
            for row in rows:
                writer.write(session.new_record(row))
    session.commit([0])
    session = tunnel.create_download_session(name, compress_algo=algorithm)
    if arrow:
        with session.open_arrow_reader(0, session.count, compress=compress) as reader:
            result = [list(row.values()) for row in reader.read().to_pylist()]
    else:
        with session.open_record_reader(0, session.count, compress=compress) as reader:
            result = [list(record.values) for record in reader]
    assert result == rows


@pytest.mark.parametrize(
    ("method", "query", "handler"),
    [
        ("POST", "downloads", instance_downloads.create),
        ("POST", "", None),
        ("GET", "downloadid", instance_downloads.look_up),
        ("GET", "data downloadid", instance_downloads.send_rows),
        ("GET", "data queryid", instance_downloads.send_all_rows),
        ("GET", "data", None),
        ("PUT", "downloads", None),
    ],
)
def test_what_an_instance_is_asked_for(method: str, query: str, handler: object) -> None:
    exchange: Any = SimpleNamespace(verb=method, query=[(name, "") for name in query.split()])
    assert _instance_handler(exchange) is handler
