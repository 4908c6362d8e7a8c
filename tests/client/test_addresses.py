from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import pytest

import fletching
from fletching.client.addresses import Reopen
from fletching.client.call_options import CallOptions
from fletching.client.credentials import Credentials
from fletching.errors import MissingExtraError, UsageError


def test_a_path_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with fletching.connect("./data") as client:
        assert client.project == "demo"
        client.create_table("t", "n BIGINT")
        location = client.channel.reopen.location
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
        "for name in ('sqlalchemy', 'starlette', 'uvicorn', 'sqlglot', 'cryptography', 'alembic'):\n"
        "    sys.modules[name] = None\n"
        "import fletching\n"
        "fletching.connect('http://127.0.0.1:9', project='p', access_id='a', access_key='b').close()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (("http://127.0.0.1:9",), {}),
        (("http://127.0.0.1:9",), {"access_id": "a"}),
        (("ftp://h",), {"access_id": "a", "access_key": "b"}),
        (("folder",), {"proxy": "http://h"}),
        (("folder", ""), {}),
        (("",), {}),
        (("folder",), {"no_such_option": 1}),
        (("folder",), {"connections": 0}),
    ],
    ids=str,
)
def test_meaningless_calls_are_refused(
    arguments: tuple[str, ...], options: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        with pytest.raises(UsageError):
            fletching.connect(*arguments, **options)
        assert list(tmp_path.iterdir()) == []


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
