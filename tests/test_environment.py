"""Variables of our name that say nothing are mistakes, not silence."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fletching.cli.main import app
from fletching.engine.engine_settings import EngineSettings
from fletching.environment import VARIABLES, check_environment
from fletching.errors import UsageError
from fletching.server.server_settings import ServerSettings


def test_every_variable_that_a_command_reads_is_known() -> None:
    root = Path(__file__).parent.parent / "src" / "fletching"
    read = {
        name
        for path in root.rglob("*.py")
        for name in re.findall(r"envvar=\"(FLETCHING_[A-Z_]+)\"", path.read_text())
    }
    assert read
    assert read <= VARIABLES | ServerSettings.variables()


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("FLETCHING_CATALOG_URL", "did you mean FLETCHING_CATALOG?"),
        ("FLETCHING_OBJECTS_URL", "did you mean FLETCHING_OBJECTS?"),
        ("FLETCHING_XYZZY", "is not known"),
    ],
)
def test_an_unknown_one_is_refused_by_name(
    name: str, hint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=re.escape(hint)):
        check_environment(["HOME", name], ServerSettings.variables())
    with pytest.raises(UsageError, match=name):
        ServerSettings.from_environment({name: "x"})
    if "XYZZY" not in name:
        with pytest.raises(UsageError, match=name):
            EngineSettings.from_environment({name: "x"})
    monkeypatch.setenv(name, "x")
    result = CliRunner().invoke(app, ["ls", "--at", str(tmp_path / "data")])
    assert isinstance(result.exception, UsageError)
    assert not (tmp_path / "data").exists()


def test_those_of_others_and_of_tests_pass() -> None:
    check_environment(["HOME", "fletching_x", "FLETCHING_TEST_EXHAUSTIVE", *VARIABLES], ())


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("FLETCHING_CATALOG", "mysql://root:secret@host/x"),
        ("FLETCHING_CATALOG", "./catalog.sqlite"),
        ("FLETCHING_OBJECTS", "http://user:secret@host/bucket"),
    ],
)
def test_urls_of_other_kinds_are_refused_without_their_secrets(variable: str, value: str) -> None:
    with pytest.raises(UsageError, match="begins with") as caught:
        EngineSettings.from_environment({variable: value})
    assert "secret" not in str(caught.value)


def test_what_is_given_wins_over_the_environment() -> None:
    environment = {"FLETCHING_CATALOG": "postgresql://a/b", "FLETCHING_OBJECTS": ""}
    assert EngineSettings.from_environment(environment).catalog_url == "postgresql://a/b"
    given = EngineSettings.from_environment(environment, catalog="postgresql://c/d")
    assert given.catalog_url == "postgresql://c/d"
    assert given.objects_url is None
