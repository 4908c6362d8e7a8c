"""Variables of our name that say nothing are mistakes, not silence."""

from __future__ import annotations

import dataclasses
import json
import pickle
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.postgresql import Databases
from typer.testing import CliRunner

import fletching
from fletching.cli.cli_options import storage_options
from fletching.cli.main import app
from fletching.engine.engine_settings import EngineSettings
from fletching.errors import UsageError
from fletching.server.server_settings import ServerSettings
from fletching.server.serving import read_all_settings
from fletching.settings import (
    VARIABLES,
    StorageChanges,
    StorageSettings,
    check_environment,
    storage_settings,
)


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


# --- one table, four places ---

CATALOG, OBJECTS = "postgresql://a/b", "s3://bucket/prefix"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "fletching.toml"
    path.write_text(text)
    return path


def test_keywords_come_before_the_environment_before_the_file(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        'catalog = "postgresql://file/x"\nobjects = "s3://file/x"\ncatalog_pool = 7\n'
        'server_key_file = "keys/server.key"\n[server]\nport = 1\n',
    )
    environment = {"FLETCHING_CATALOG": CATALOG, "FLETCHING_OBJECTS": "s3://environment/x"}
    result, file = storage_settings(environment, config=path, objects=OBJECTS, catalog_migrate=None)
    assert (result.catalog, result.objects, result.catalog_pool) == (CATALOG, OBJECTS, 7)
    # A path is relative to the file that says it.
    assert result.server_key_file == str(tmp_path / "keys" / "server.key")
    assert result.catalog_migrate is True
    assert file is not None
    server = ServerSettings.from_environment({}, file.table("server"), host="::1")
    assert (server.host, server.port) == ("::1", 1)
    server = ServerSettings.from_environment({"FLETCHING_PORT": "2"}, file.table("server"))
    assert server.port == 2
    assert storage_settings({"FLETCHING_CONFIG": str(path)})[0].catalog == "postgresql://file/x"


def test_the_server_key_that_was_said_with_more_weight_counts(tmp_path: Path) -> None:
    key = "ab" * 32
    environment = {"FLETCHING_SERVER_KEY": key}
    assert storage_settings(environment)[0].server_key == key
    result, _ = storage_settings(environment, server_key_file=tmp_path / "k")
    assert (result.server_key, result.server_key_file) == (None, str(tmp_path / "k"))
    both = {**environment, "FLETCHING_SERVER_KEY_FILE": "k"}
    with pytest.raises(UsageError, match="twice"):
        storage_settings(both)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("catalogue = 'x'", r"catalogue in .*fletching\.toml is not known; did you mean catalog"),
        ("catalog_pool = 'many'", "catalog_pool in .*='many' is not a whole number"),
        ("catalog_pool = true", "catalog_pool in .* is True, and should be connections"),
        ("catalog_pool = 1", "at least 2"),
        ("catalog = 5", "catalog in .* is 5, and should be URL"),
        ("catalog = ", "are no TOML"),
        ("objects = 's3://'", "names no bucket"),
        ("server_key = 'abc'", "not 64 hexadecimal digits"),
        ("server = 1", "is no table"),
        ("[server]\nprot = 1", "prot in .* is not known; did you mean port"),
    ],
)
def test_what_a_file_says_wrongly_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UsageError, match=sentence) as caught:
        read_all_settings({}, path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["/dev/zero", "long.toml"])
def test_what_is_no_file_of_settings_is_not_read_to_its_end(tmp_path: Path, path: str) -> None:
    (tmp_path / "long.toml").write_bytes(b"#" * (2 << 20))
    with pytest.raises(UsageError, match=r"has more than 1,048,576 bytes: it is no file of sett"):
        storage_settings({}, config=tmp_path / path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.toml cannot be read: No such file"):
        storage_settings({}, config=tmp_path / "none.toml")


def test_keywords_that_are_not_known_are_refused_by_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="did you mean catalog"):
        storage_settings({}, catalogue="x")


def test_every_place_knows_every_setting() -> None:
    names = {field.name for field in dataclasses.fields(StorageSettings)} - {"folder"}
    assert set(StorageChanges.__annotations__) - {"config"} == names
    secrets = {f.name for f in dataclasses.fields(StorageSettings) if f.metadata["secret"]}
    assert set(storage_options(hidden=False)) - {"config"} == names - secrets
    assert {f"FLETCHING_{name.upper()}" for name in names} <= VARIABLES
    inherited = EngineSettings.of(StorageSettings(catalog=CATALOG, objects=OBJECTS, catalog_pool=9))
    assert (inherited.catalog_url, inherited.objects_url, inherited.catalog_pool) == (
        CATALOG,
        OBJECTS,
        9,
    )


@pytest.mark.parametrize("field", dataclasses.fields(StorageSettings), ids=lambda each: each.name)
def test_every_setting_is_documented(field: dataclasses.Field[object]) -> None:
    operations = Path(__file__).parent.parent / "docs" / "operations.md"
    cells = (f"`{field.name}`", field.metadata["unit"], f"`{field.default}`")
    row = f"| {' | '.join(cells)} | {field.metadata['meaning']} |"
    assert row in operations.read_text().splitlines()


def test_secrets_are_not_printed() -> None:
    result = StorageSettings(
        catalog="postgresql://me:sesame@host/x?password=sesame",
        objects=OBJECTS,
        server_key="5e" * 32,
    )
    assert "sesame" not in f"{result} {result!r}"
    assert "5e5e" not in f"{result} {result!r} {EngineSettings.of(result)!r}"


# --- a data set of this process, without a server ---


def test_connect_takes_settings_instead_of_a_folder(
    postgresql: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "server.key"
    key.write_text("07" * 32 + "\n")
    where: dict[str, Any] = {"catalog": postgresql.create(), "server_key_file": key}
    folder = tmp_path / "data"
    with fletching.connect(folder, create=True, **where) as client:
        client.create_table("t", pa.table({"id": [1, 2]}))
        table = pickle.loads(pickle.dumps(client.table("t")))
    assert table.count_rows() == 2
    assert not (folder / "catalog.sqlite").exists()
    path = written(
        tmp_path, f'folder = "data"\ncatalog = "{where["catalog"]}"\nserver_key_file = "{key}"'
    )
    with fletching.connect(config=path) as client:
        assert client.table("t").count_rows() == 2
    monkeypatch.setenv("FLETCHING_CONFIG", str(path))
    with fletching.connect() as client:
        assert client.table("t").count_rows() == 2
    message = CliRunner().invoke(app, ["count", "t", "--json"])
    assert message.exit_code == 0, message.output
    assert json.loads(message.stdout) == {"table": "t", "rows": 2}
    with pytest.raises(UsageError, match="is for a data set"):
        fletching.connect("http://127.0.0.1:1", access_id="a", access_key="b", config=path)
