from __future__ import annotations

import dataclasses
import os
import typing
from pathlib import Path
from typing import Any

import pytest
from tests.folding import folded

import fletching
from fletching.errors import UsageError
from fletching.server.logs import LogFormat
from fletching.server.server_settings import (
    ReplyCompression,
    ServeOptions,
    ServerChanges,
    ServerSettings,
)
from fletching.settings import StorageSettings

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
FIELDS = dataclasses.fields(ServerSettings)


@folded("field", FIELDS)
def test_every_setting_is_documented_with_its_unit_and_default(
    field: dataclasses.Field[object],
) -> None:
    rows = [
        line
        for line in OPERATIONS.read_text().split("<!-- ")[1].splitlines()
        if line.startswith(f"| `{field.name}`")
    ]
    assert len(rows) == 1
    cells = [cell.strip() for cell in rows[0].strip("|").split("|")]
    assert cells == [
        f"`{field.name}`",
        field.metadata["unit"],
        f"`{field.default}`",
        field.metadata["meaning"],
    ]


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("PORT", "99", 99),
        ("MAX_JSON_BYTES", "3", 3),
        ("MAX_JSON_BYTES", "3KiB", 3072),
        ("MAX_JSON_BYTES", "2 MiB", 2 << 20),
        ("INGEST_MEMORY_BYTES", "1g", 1 << 30),
        ("KEEP_ALIVE_SECONDS", "1.5", 1.5),
        ("ACCESS_LOG", "off", False),
        ("ACCESS_LOG", "TRUE", True),
        ("REPLY_COMPRESSION", "arrow", ReplyCompression.ARROW),
        ("PROJECT", "p2", "p2"),
        ("PUBLIC_HOST", "h:1", "h:1"),
        ("PUBLIC_HOST", "", None),
    ],
)
def test_the_environment_sets(name: str, text: str, value: object) -> None:
    settings = ServerSettings.from_environment({f"FLETCHING_{name}": text, "OTHER": "x"})
    assert getattr(settings, name.lower()) == value


def test_what_is_given_wins_over_the_environment_and_none_does_not() -> None:
    environment = {"FLETCHING_PORT": "1", "FLETCHING_HOST": "0.0.0.0"}
    settings = ServerSettings.from_environment(environment, port=2, host=None)
    assert (settings.port, settings.host) == (2, "0.0.0.0")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("PORT", "x"),
        ("PORT", "-1"),
        ("PORT", "65536"),
        ("MAX_JSON_BYTES", "3 XB"),
        ("ACCESS_LOG", "maybe"),
        ("KEEP_ALIVE_SECONDS", "long"),
        ("KEEP_ALIVE_SECONDS", "-1"),
        ("KEEP_ALIVE_SECONDS", "nan"),
        ("REPLY_COMPRESSION", "gzip"),
        ("MAX_BODIES", "0"),
        ("TLS_KEY", "key.pem"),
    ],
)
def test_what_cannot_work_is_refused_by_name(name: str, text: str) -> None:
    with pytest.raises(UsageError, match=f"(?i){name}"):
        ServerSettings.from_environment({f"FLETCHING_{name}": text})


@pytest.mark.parametrize(("port", "taken"), [(-1, False), (0, True), (65535, True), (65536, False)])
def test_ports(port: int, taken: bool) -> None:
    if taken:
        assert ServerSettings(port=port).port == port
    else:
        with pytest.raises(UsageError, match="setting port"):
            ServerSettings(port=port)


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(UsageError, match="max_speed"):
        ServerSettings.from_environment({}, max_speed=1)


def test_serve_takes_every_setting_by_its_name_and_type() -> None:
    taken = typing.get_type_hints(ServerChanges)
    hints = typing.get_type_hints(ServerSettings)
    # How it listens stands among the arguments of `serve` itself.
    assert set(taken) == set(hints) - {"host", "port", "project"}
    for name, hint in taken.items():
        kinds = {each for each in typing.get_args(hint) or (hint,) if isinstance(each, type)}
        own = set(typing.get_args(hints[name]) or (hints[name],))
        assert own <= kinds, name
        assert kinds - own <= {os.PathLike[str]}, name
    assert set(ServeOptions.__annotations__) == set(taken) | {
        field.name for field in dataclasses.fields(StorageSettings) if field.name != "folder"
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_body": 3}, "max_body is not known; did you mean max_bodies"),
        ({"acess_keys": {}}, "acess_keys is not known; did you mean access_keys"),
        ({"port": "8787"}, "port is '8787', and should be port"),
        ({"max_bodies": True}, "max_bodies is True, and should be requests"),
        ({"drain_seconds": "1"}, "drain_seconds is '1', and should be seconds"),
        ({"tracing": 1}, "tracing is 1, and should be true or false"),
        ({"log_format": 5}, "log_format is 5, and should be text or json"),
        ({"log_format": "xml"}, "text or json"),
        ({"host": 5}, "host is 5, and should be address"),
        ({"catalog": 5}, "catalog is 5, and should be URL"),
        ({"server_key": 5}, "server_key is int, and should be 64 hex digits"),
        ({"access_keys": ["a"]}, "access keys are a dict"),
        ({"access_keys": {"a": 5}}, "access key needs an id"),
    ],
)
def test_serve_refuses_other_names_and_types_before_anything_is_made(
    tmp_path: Path, options: Any, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        fletching.serve(tmp_path / "data", **options)
    assert not (tmp_path / "data").exists()


def test_numbers_paths_and_words_stand_for_what_they_mean(tmp_path: Path) -> None:
    given: dict[str, Any] = {"drain_seconds": 1, "log_format": "json", "sql_spill_folder": tmp_path}
    settings = ServerSettings.from_environment({}, **given)
    assert (settings.drain_seconds, settings.log_format) == (1, LogFormat.JSON)
    assert settings.sql_spill_folder == str(tmp_path)
