from __future__ import annotations

import pickle
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest

import fletching
from fletching.client import addresses
from fletching.client.addresses import Reopen
from fletching.client.call_options import CallOptions
from fletching.client.credentials import Credentials
from fletching.client.profiles import Profile, Profiles
from fletching.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    MissingExtraError,
    NoSuchProjectError,
    OperationCancelledError,
    UsageError,
)


@pytest.fixture(autouse=True)
def _own_environment(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AT", "ACCESS_KEY", "ACCESS_KEY_FILE", "PROJECT", "PROFILE"):
        monkeypatch.delenv(f"FLETCHING_{name}", raising=False)
    monkeypatch.setenv("FLETCHING_CONFIG_DIR", str(tmp_path_factory.mktemp("config")))


def test_a_path_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with fletching.connect("./data", create=True) as client:
        assert client.project == "demo"
        client.create_table("t", "n BIGINT")
        reopen = client.channel.reopen
        assert isinstance(reopen, Reopen)
        location = reopen.location
    assert Path(location) == tmp_path / "data"
    with fletching.connect(tmp_path / "data", project="demo") as client:
        assert client.list_tables() == ["t"]


def test_a_folder_without_the_extra_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(
        sys.modules, "fletching.client.transports.embedded.embedded_transport", raising=False
    )
    monkeypatch.setitem(sys.modules, "fletching.engine.engine", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'fletching\[server\]'"):
        fletching.connect(tmp_path)


def test_a_client_of_a_service_needs_no_extra() -> None:
    import subprocess

    code = (
        "import sys\n"
        "for name in ('sqlalchemy', 'uvicorn', 'sqlglot', 'cryptography', 'alembic'):\n"
        "    sys.modules[name] = None\n"
        "import fletching\n"
        "fletching.connect('http://127.0.0.1:9', project='p', access_id='a', access_key='b').close()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=600)


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (("http://127.0.0.1:9",), {}),
        (("http://127.0.0.1:9",), {"access_id": "a"}),
        (("ftp://h",), {"access_id": "a", "access_key": "b"}),
        (("s3://bucket/prefix",), {"create": True}),
        (("file:///tmp/x",), {"create": True}),
        (("127.0.0.1:8787",), {"create": True}),
        (("localhost:8787",), {"create": True}),
        (("tables.example:443/api",), {"create": True}),
        (("[::1]:8787",), {"create": True}),
        (("http:/127.0.0.1:8787",), {"create": True}),
        (("HTTPS:tables.example",), {"create": True}),
        (("folder",), {}),
        (("folder",), {"create": True, "access_id": "a", "access_key": "b"}),
        (("folder\0",), {"create": True}),
        ((b"folder",), {"create": True}),
        ((7,), {"create": True}),
        (("folder", 7), {"create": True}),
        (("folder",), {"create": True, "schema": None}),
        (("http://127.0.0.1:9",), {"access_id": "\u00e9", "access_key": "b"}),
        (("http://127.0.0.1:9",), {"access_id": 1, "access_key": "b"}),
        (("http://127.0.0.1:9",), {"access_id": "a", "access_key": b"b"}),
        (("http://127.0.0.1:9",), {"access_id": "a", "access_key": "b", "proxy": 8080}),
        (("folder",), {"create": True, "timeouts": 5}),
        (("folder",), {"create": True, "timeouts": {"idle": "5"}}),
        (("folder",), {"create": True, "timeouts": {"no_such": 5}}),
        (("folder",), {"create": True, "retry": {"budget_seconds": None}}),
        (("folder",), {"create": True, "retry": {"jitter": float("nan")}}),
        (("folder",), {"create": True, "retry": 3}),
        (("folder",), {"create": True, "split_bytes": "1"}),
        (("folder",), {"create": True, "compression": ["lz4"]}),
        (("folder",), {"create": True, "lz4_stream": "yes"}),
        (("folder",), {"create": True, "proxy": "http://h"}),
        (("folder", ""), {"create": True}),
        (("",), {}),
        (("folder",), {"create": True, "no_such_option": 1}),
        (("folder",), {"create": True, "connections": 0}),
    ],
    ids=str,
)
def test_meaningless_calls_are_refused(
    arguments: tuple[Any, ...], options: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        with pytest.raises(UsageError):
            fletching.connect(*arguments, **options)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("secret", "access_key"),
        ("secret_access_key", "access_key"),
        ("endpoint", "url_or_path"),
        ("conections", "connections"),
        ("bogus", "read_ahead_bytes"),
    ],
)
def test_an_option_of_another_name_is_answered_with_ours(name: str, meant: str) -> None:
    options: dict[str, Any] = {name: "x"}
    with pytest.raises(UsageError, match=rf"no option '{name}'.*{meant}"):
        fletching.connect("http://127.0.0.1:1", **options)


def test_options_reach_every_call() -> None:
    with fletching.connect(
        "http://127.0.0.1:9",
        project="p",
        access_id="a",
        access_key="b",
        timeouts={"idle": 3.0},
        retry={"budget_seconds": 0.0},
        connections=2,
    ) as client:
        options = client.channel.options
    assert (options.timeouts.idle, options.retry.budget_seconds, options.connections) == (3.0, 0, 2)


def test_what_arrives_pickled_shares_one_channel_per_process(tmp_path: Path) -> None:
    fletching.connect(tmp_path / "folder", create=True).close()
    reopen = Reopen(str(tmp_path / "folder"), None, CallOptions())
    copies = [pickle.loads(pickle.dumps(reopen)) for _ in range(2)]
    assert copies[0]() is copies[1]() is reopen()
    reopen().transport.close()


def test_secrets_are_not_shown() -> None:
    keys = Credentials("the-id", "the-secret", "the-token")
    text = repr(keys) + repr(Reopen("http://h", keys, CallOptions()))
    assert "the-id" in text
    assert "the-secret" not in text
    assert "the-token" not in text
    assert str(Reopen("http://h", keys, CallOptions())) == "http://h"


def test_an_explicit_timing_is_used(tmp_path: Path, clock: Any) -> None:
    timing = clock.timing
    with fletching.connect(tmp_path, timing=timing) as client:
        assert client.channel.timing is timing


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1:8787", "did you mean http://127.0.0.1:8787 ?"),
        ("localhost:8787", "did you mean http://localhost:8787 ?"),
        ("http:/127.0.0.1:8787", "did you mean http://127.0.0.1:8787 ?"),
        ("http//h/x", "did you mean http://h/x ?"),
        ("//h:8787/x", "did you mean http://h:8787/x ?"),
        ("user@h:80", "did you mean http://user@h:80 ?"),
        ("[::1]:8787", "did you mean http://[::1]:8787 ?"),
        ("127.0.0.1", "did you mean http://127.0.0.1 ?"),
        ("localhost/x", "did you mean http://localhost/x ?"),
        (f"{'h' * 300}:80", "did you mean http://hhh"),
        ("x" * 300, "cannot be opened: File name too long"),
        ("ftp://h/x", "ftp://"),
        ("typo", "create=True"),
    ],
)
def test_a_refused_address_names_the_cure(
    address: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        fletching.connect(address, create=words != "create=True")
    assert words in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_made_only_when_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no folder or profile"):
        fletching.connect(tmp_path / "new" / "data")
    assert list(tmp_path.iterdir()) == []
    with fletching.connect(tmp_path / "new" / "data", create=True) as client:
        client.create_table("t", "n BIGINT")
    with fletching.connect(tmp_path / "new" / "data", create=True) as client:
        assert client.list_tables() == ["t"]
    # An empty folder that somebody made is as good as asking.
    (tmp_path / "empty").mkdir()
    with fletching.connect(tmp_path / "empty") as client:
        assert client.list_tables() == []


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("chapter 1")
    with pytest.raises(UsageError, match="other things"):
        fletching.connect(tmp_path)
    with pytest.raises(UsageError, match="is a file"):
        fletching.connect(tmp_path / "thesis.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with fletching.connect(tmp_path, create=True) as client:
        assert client.list_tables() == []


def test_a_folder_may_be_named_like_an_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fletching.connect("./localhost:8787", create=True).close()
    fletching.connect("localhost:8787").close()
    fletching.connect(Path("localhost:1"), create=True).close()


def test_a_mistyped_project_is_not_made(client: fletching.Client) -> None:
    other = fletching.Client(client.channel, "mistyped")
    with pytest.raises(NoSuchProjectError, match="create=True"):
        other.create_table("t", "n BIGINT")
    with pytest.raises(NoSuchProjectError):
        other.list_tables()
    fresh = f"fresh{client.project}"
    client.create_project(fresh)
    assert fletching.Client(client.channel, fresh).create_table("t", "n BIGINT").count_rows() == 0
    with pytest.raises(AlreadyExistsError):
        client.create_project(fresh.upper())
    client.create_project(fresh, if_not_exists=True)
    for name in ("a b", "a.b", "*", "x" * 200):
        with pytest.raises(InvalidArgumentError):
            client.create_project(name)


def test_the_environment_says_where(
    http_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="FLETCHING_AT"):
        fletching.connect()
    monkeypatch.setenv("FLETCHING_AT", http_server.url)
    with pytest.raises(UsageError, match="access_id"):
        fletching.connect()
    monkeypatch.setenv("FLETCHING_ACCESS_KEY", "tester")
    with pytest.raises(UsageError, match="ID:SECRET"):
        fletching.connect()
    monkeypatch.setenv("FLETCHING_ACCESS_KEY", "tester:testers-secret")
    with pytest.raises(UsageError, match="both"):
        fletching.connect(access_id="a", access_key="b")
    with fletching.connect() as client:
        client.list_tables()
        assert client.project == "demo"
    monkeypatch.delenv("FLETCHING_ACCESS_KEY")
    monkeypatch.setenv("FLETCHING_ACCESS_KEY_FILE", str(tmp_path / "none"))
    with pytest.raises(UsageError, match="cannot read"):
        fletching.connect()
    (tmp_path / "key").write_text("tester:testers-secret\n")
    monkeypatch.setenv("FLETCHING_ACCESS_KEY_FILE", str(tmp_path / "key"))
    monkeypatch.setenv("FLETCHING_PROJECT", "other")
    with fletching.connect(project="demo") as client:
        client.list_tables()
    with fletching.connect() as client:
        assert client.project == "other"
    monkeypatch.setenv("FLETCHING_AT", str(tmp_path / "folder"))
    with fletching.connect(create=True) as client:
        assert client.list_tables() == []


def test_closing_one_unpickled_client_leaves_the_others(
    client: fletching.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Tables that other tests unpickled for the same service keep its shared channel open.
    monkeypatch.setattr(addresses, "_shared", OrderedDict())
    client.create_table("t", "n BIGINT")
    text = pickle.dumps(client)
    first, second = pickle.loads(text), pickle.loads(text)
    assert first.channel is second.channel
    first.close()
    first.close()
    assert second.list_tables() == ["t"]
    second.close()
    with pytest.raises(OperationCancelledError):
        second.list_tables()
    third = pickle.loads(text)
    assert third.list_tables() == ["t"]
    third.close()
    # A table that arrived by itself is closed by nobody.
    table, fourth = pickle.loads(pickle.dumps(client.table("t"))), pickle.loads(text)
    fourth.close()
    assert table.count_rows() == 0
    table.channel.transport.close()


def test_a_profile_says_where_and_as_whom(
    http_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    profiles = Profiles()
    served = Profile("served", http_server.url, "demo", "tester", "testers-secret")
    profiles.save(served, keyring=False)
    profiles.save(Profile("here", str(tmp_path / "folder")), default=False)
    for opened in (
        fletching.connect("served"),
        fletching.connect(),
        fletching.connect(http_server.url),
        fletching.connect(http_server.url + "/"),
    ):
        with opened as client:
            client.list_tables()
            assert str(client.channel.reopen).rstrip("/") == http_server.url
    with fletching.connect("here", create=True) as client:
        assert client.list_tables() == []
    monkeypatch.setenv("FLETCHING_PROFILE", "here")
    with fletching.connect() as client:
        assert client.list_tables() == []
    monkeypatch.setenv("FLETCHING_AT", "served")
    monkeypatch.setenv("FLETCHING_PROJECT", "mine")
    with fletching.connect() as client:
        assert client.project == "mine"
        assert str(client.channel.reopen) == http_server.url
    # What is given wins: another key is not the profile's, and a folder is a folder.
    with (
        fletching.connect(http_server.url, access_id="tester", access_key="wrong") as client,
        pytest.raises(fletching.FletchingError),
    ):
        client.list_tables()
    monkeypatch.delenv("FLETCHING_AT")
    monkeypatch.setenv("FLETCHING_PROFILE", "nobody")
    with pytest.raises(UsageError, match="here, served"):
        fletching.connect()
