from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from fletching.errors import UsageError
from fletching.server.server_settings import ReplyCompression, ServerSettings

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
FIELDS = dataclasses.fields(ServerSettings)


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
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


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(UsageError, match="max_speed"):
        ServerSettings.from_environment({}, max_speed=1)
