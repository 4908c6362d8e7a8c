"""A wrong setting is one sentence at the start, and exit status 2; nothing is made."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.postgresql import Databases, admin
from tests.seaweedfs import ObjectStorage, environment
from typer.testing import CliRunner, Result

import fletching
from fletching.cli.main import app
from fletching.engine.engine import Engine
from fletching.engine.engine_settings import EngineSettings
from fletching.engine.generations import PREFIX as GENERATIONS
from fletching.errors import SettingsError, StorageError, UsageError
from fletching.server.serving import serve

KEY = "ab" * 32
KEYS = {"ak": "sk"}


class Deployment:
    """A data set in PostgreSQL and S3, to be opened with something wrong."""

    def __init__(self, postgresql: Databases, s3: ObjectStorage) -> None:
        self.databases = postgresql
        self.s3 = s3
        self.catalog = postgresql.create()
        self.objects = s3.create()

    def open(self, **changed: Any) -> None:
        settings: dict[str, Any] = {
            "catalog_url": self.catalog,
            "objects_url": self.objects,
            "server_key": KEY,
        }
        Engine.open(None, settings=EngineSettings(**{**settings, **changed})).close()

    def serve(self, **changed: Any) -> None:
        settings: dict[str, Any] = {
            "catalog": self.catalog,
            "objects": self.objects,
            "server_key": KEY,
        }
        serve(access_keys=KEYS, drain_idle_seconds=0.05, **{**settings, **changed}).close()

    def role(self, *grants: str) -> str:
        """The catalog's URL for somebody who may read alone, and do what is granted besides."""
        name = "reader"
        with admin(self.catalog) as connection:
            known = connection.execute(
                "SELECT 1 FROM pg_roles WHERE rolname = %s", (name,)
            ).fetchone()
            if known is None:
                connection.execute(f"CREATE ROLE {name} LOGIN")
            for grant in (
                "USAGE ON SCHEMA public",
                "SELECT ON ALL TABLES IN SCHEMA public",
                *grants,
            ):
                connection.execute(f"GRANT {grant} TO {name}")
        return self.catalog.replace("postgres@", f"{name}@")


@pytest.fixture
def deployment(postgresql: Databases, s3: ObjectStorage) -> Deployment:
    return Deployment(postgresql, s3)


def refused(call: Callable[[], None]) -> str:
    with pytest.raises(SettingsError) as caught:
        call()
    # Both kinds of handlers see it: those of storage, and those of wrong use.
    assert isinstance(caught.value, StorageError)
    assert isinstance(caught.value, UsageError)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 500
    return message


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://me:sesame@127.0.0.1:1/x", "Connection refused"),
        ("postgresql://me:sesame@no-such-host.invalid/x", "no-such-host.invalid"),
        ("postgresql://me:sesame@127.0.0.1:port/x", "a port of digits"),
    ],
)
def test_a_catalog_that_is_not_there(deployment: Deployment, url: str, says: str) -> None:
    message = refused(lambda: deployment.open(catalog_url=url))
    assert message.startswith("the catalog postgresql://")
    assert says in message
    assert "sesame" not in message


def test_a_database_that_is_not_there(deployment: Deployment) -> None:
    url = deployment.databases.named("never_made")
    assert 'database "never_made" does not exist' in refused(
        lambda: deployment.open(catalog_url=url)
    )


def test_a_role_that_may_only_read(deployment: Deployment) -> None:
    deployment.serve()
    url = deployment.role()
    for call in (
        lambda: deployment.serve(catalog=url),
        lambda: deployment.serve(catalog=url, project="p2"),
    ):
        message = refused(call)
        assert message.startswith("the catalog ")
        assert "permission denied" in message


def test_an_empty_database_and_a_role_that_may_only_read(deployment: Deployment) -> None:
    message = refused(lambda: deployment.open(catalog_url=deployment.role()))
    assert message.startswith("the catalog ")
    assert "permission denied" in message


def test_a_catalog_of_a_newer_release(deployment: Deployment) -> None:
    deployment.open()
    with admin(deployment.catalog) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    for migrate in (True, False):
        message = refused(functools.partial(deployment.open, catalog_migrate=migrate))
        assert "revision 9999" in message
        assert "newer Fletching" in message


def test_servers_that_only_check_wait_for_the_migration(deployment: Deployment) -> None:
    empty = deployment.databases.create(migrated=False)
    message = refused(lambda: deployment.open(catalog_url=empty, catalog_migrate=False))
    assert "run fletching migrate first" in message
    with admin(empty) as connection:
        count = connection.execute(
            "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
        ).fetchone()
    assert count == (0,)
    deployment.open()
    deployment.open(catalog_migrate=False)
    with admin(deployment.catalog) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
    message = refused(lambda: deployment.open(catalog_migrate=False))
    assert "is at revision 0001" in message
    assert "run fletching migrate first" in message


@pytest.mark.parametrize("seconds", [-3600.0, 3600.0])
def test_a_clock_that_is_off(
    deployment: Deployment, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: real() + seconds)
        message = refused(deployment.open)
    assert "this machine's clock is 3600 s" in message
    assert ("ahead of" if seconds > 0 else "behind") in message
    monkeypatch.setattr(time, "time", lambda: real() + seconds / 36)
    deployment.open()


def test_a_bucket_that_is_not_there(deployment: Deployment) -> None:
    message = refused(lambda: deployment.open(objects_url="s3://no-such-bucket/x"))
    assert message.startswith("the object store s3://no-such-bucket/x cannot be used: NoSuchBucket")


def test_credentials_that_are_not_known(deployment: Deployment) -> None:
    deployment.s3.use(environment(deployment.s3.url, "nobody", "nothing"))
    message = refused(deployment.open)
    assert "InvalidAccessKeyId" in message
    assert "nothing" not in message


def test_credentials_that_may_only_read(deployment: Deployment) -> None:
    deployment.serve()
    deployment.s3.use(deployment.s3.read_only())
    # Who only looks may go on.
    deployment.open()
    message = refused(deployment.serve)
    assert message.startswith(f"the object store {deployment.objects} cannot be used: AccessDenied")
    first = deployment.s3.create()
    message = refused(
        lambda: deployment.open(objects_url=first, catalog_url=deployment.databases.create())
    )
    assert "AccessDenied" in message


def test_an_endpoint_where_nothing_answers(deployment: Deployment) -> None:
    deployment.s3.use(environment("http://127.0.0.1:1"))
    message = refused(deployment.open)
    assert message.startswith(f"the object store {deployment.objects} cannot be used: ")
    deployment.s3.use({"AWS_ENDPOINT": "nonsense"})
    assert "AWS_ENDPOINT='nonsense' is no URL" in refused(deployment.open)


def test_a_server_that_starts_leaves_no_probe(deployment: Deployment) -> None:
    deployment.serve()
    settings = EngineSettings(
        catalog_url=deployment.catalog, objects_url=deployment.objects, server_key=KEY
    )
    with contextlib.closing(Engine.open(None, settings=settings)) as engine:
        keys = [info.key for info in engine.context.store.list("")]
        assert [key for key in keys if not key.startswith(f"{GENERATIONS}/")] == []


# --- as a command ---


def test_the_command_says_it_in_one_line_with_status_2(
    deployment: Deployment, tmp_path: Path
) -> None:
    where = ("--catalog", deployment.catalog, "--objects", "s3://no-such-bucket/x")
    done = subprocess.run(
        [sys.executable, "-m", "fletching", "serve", "--port", "0", *where],
        env={**os.environ, "FLETCHING_SERVER_KEY": KEY},
        capture_output=True, text=True, timeout=600, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: the object store s3://no-such-bucket/x cannot be used")
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_every_command_finds_the_data_set(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*words: str) -> Result:
        return CliRunner().invoke(app, list(words))

    monkeypatch.setenv("FLETCHING_SERVER_KEY", KEY)
    where = ("--catalog", deployment.catalog, "--objects", "s3://no-such-bucket/x")
    for words in (["ls"], ["keys", "list"], ["verify"], ["maintain"], ["sql", "select 1"]):
        failed = run(*words, *where).exception
        assert isinstance(failed, SettingsError)
        assert "no-such-bucket" in failed.message
    monkeypatch.setenv("FLETCHING_CATALOG", deployment.catalog)
    monkeypatch.setenv("FLETCHING_OBJECTS", deployment.objects)
    with pytest.raises(UsageError, match="nobody could sign a request"):
        serve()
    assert run("migrate", "--check").exit_code == 0
    assert run("migrate").exit_code == 0
    made = run("keys", "create", "boss", "--grant", "admin")
    assert made.exit_code == 0, made.output
    with serve(drain_idle_seconds=0.05) as server:
        assert server.access_key == ("", "")
        secret = made.stdout.strip().rpartition(":")[2]
        with fletching.connect(server.url, access_id="boss", access_key=secret) as client:
            client.create_table("t", {"id": [1]})
            assert client.table("t").count_rows() == 1
        (row,) = json.loads(run("servers", "--json").stdout)
        assert (row["url"], row["lives"]) == (server.url, True)
        assert server.url in run("servers").output
    assert json.loads(run("servers", "--json").stdout) == []
    done = run("maintain", "--once")
    assert done.exit_code == 0, done.output
    assert run("ls").exit_code == 0


def test_a_cache_of_what_lies_in_a_folder_anyway(tmp_path: Path) -> None:
    settings = EngineSettings(cache_dir=tmp_path / "cache", cache_bytes=1 << 30)
    message = refused(lambda: Engine.open(tmp_path / "data", settings=settings).close())
    assert message.startswith("cache_dir is for objects in a bucket")
    assert list(tmp_path.iterdir()) == []
