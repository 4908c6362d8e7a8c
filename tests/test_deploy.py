"""The files of ``deploy/``: read by those they are for, true to our settings, and nginx run for real."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from tests.balancer import CONFIGURATION, Balancer, nginx_program

import fletching
from fletching.server.server_settings import ServerSettings
from fletching.server.serving import read_all_settings
from fletching.settings import VARIABLES

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
KUBERNETES = sorted(
    path for path in (DEPLOY / "kubernetes").glob("*.yaml") if path.name != "kustomization.yaml"
)
SERVERS = ("fletching-1", "fletching-2", "fletching-3")


def tool(module: str, *words: str) -> str:
    """Runs a checker that is a package; the test is skipped where it is not installed."""
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    done = subprocess.run(
        [sys.executable, "-m", module, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def documents() -> list[dict[str, Any]]:
    return [each for path in KUBERNETES for each in yaml.safe_load_all(path.read_text())]


def kind(name: str, wanted: str) -> dict[str, Any]:
    (result,) = [
        each for each in documents() if (each["kind"], each["metadata"]["name"]) == (wanted, name)
    ]
    return result


def seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+)s?", text)
    assert match
    return float(match[1])


def nginx_value(name: str, block: str) -> str:
    """A directive inside a block of the configuration."""
    inside = CONFIGURATION.read_text().partition(block)[2]
    match = re.search(rf"\n *{name} ([^;]+);", inside)
    assert match, name
    return match[1]


# --- their own checkers ---


@pytest.mark.cluster
def test_compose_file_follows_its_schema() -> None:
    tool(
        "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(DEPLOY / "compose.yaml")
    )


@pytest.mark.cluster
@pytest.mark.parametrize("path", KUBERNETES, ids=lambda path: path.name)
def test_manifests_follow_the_schemas_of_kubernetes(path: Path) -> None:
    validate = shutil.which("kubernetes-validate", path=str(Path(sys.executable).parent))
    if validate is None:
        pytest.skip("kubernetes-validate is not installed")
    done = subprocess.run(
        [validate, "--strict", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.cluster
def test_dockerfile_has_no_lint() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run(
        [hadolint, str(DEPLOY / "Dockerfile")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.cluster
def test_unit_verifies(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd is not installed")
    unit = (DEPLOY / "systemd" / "fletching@.service").read_text()
    # What it starts is not installed here.
    assert "/opt/fletching/bin/fletching serve " in unit
    copy = tmp_path / "fletching@.service"
    copy.write_text(unit.replace("/opt/fletching/bin/fletching", "/bin/true"))
    done = subprocess.run(
        [analyze, "verify", str(copy)], capture_output=True, text=True, check=False
    )
    # Of other units of this machine it may have complaints, too.
    ours = [line for line in done.stderr.splitlines() if "fletching" in line]
    assert not ours, done.stderr


def test_every_resource_is_in_the_kustomization() -> None:
    listed = yaml.safe_load((DEPLOY / "kubernetes" / "kustomization.yaml").read_text())
    assert sorted(listed["resources"]) == [path.name for path in KUBERNETES]


# --- true to our settings ---


def known_variables() -> set[str]:
    return set(VARIABLES | ServerSettings.variables())


def test_every_variable_is_one_of_ours() -> None:
    message: set[str] = set()
    for service in COMPOSE["services"].values():
        environment = service.get("environment", {})
        message |= {name for name in environment if name.startswith("FLETCHING_")}
    for document in documents():
        message |= {name for name in document.get("data", {}) if name.startswith("FLETCHING_")}
        for container in containers(document):
            message |= {e["name"] for e in container.get("env", []) if "FLETCHING_" in e["name"]}
    for path in ("Dockerfile", "systemd/fletching@.service"):
        message |= set(re.findall(r"\bFLETCHING_[A-Z_]+", (DEPLOY / path).read_text()))
    assert len(message) > 10
    assert message <= known_variables()


def containers(document: dict[str, Any]) -> list[dict[str, Any]]:
    result = document.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])
    assert isinstance(result, list)
    return result


def test_every_command_is_one_of_ours() -> None:
    from fletching.cli.command_group import COMMANDS

    known = {command.name for command in COMMANDS}
    message = {container["args"][0] for each in documents() for container in containers(each)}
    message |= {
        COMPOSE["services"][name]["command"][0] for name in ("migrate", "maintain", *SERVERS)
    }
    assert message == {"serve", "migrate", "maintain"} <= known


def test_the_settings_of_the_unit_are_read() -> None:
    storage, server = read_all_settings({}, DEPLOY / "systemd" / "fletching.toml")
    assert storage.catalog
    assert storage.objects
    assert server.drain_idle_seconds == 10


def test_no_container_runs_as_root_or_writes_where_it_lies() -> None:
    assert re.search(r"^USER 10001", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    for name in ("migrate", "maintain", "nginx", *SERVERS):
        service = COMPOSE["services"][name]
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
    for document in documents():
        for container in containers(document):
            pod = document["spec"]["template"]["spec"]
            assert pod["securityContext"]["runAsNonRoot"] is True
            rights = container["securityContext"]
            assert rights["readOnlyRootFilesystem"] is True
            assert rights["allowPrivilegeEscalation"] is False
            assert rights["capabilities"] == {"drop": ["ALL"]}


def test_nobody_is_killed_before_its_drain_is_over() -> None:
    for name in SERVERS:
        service = COMPOSE["services"][name]
        drain = float(service["environment"]["FLETCHING_DRAIN_SECONDS"])
        assert seconds(service["stop_grace_period"]) > drain
    pod = kind("fletching", "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    variables = {each["name"]: each.get("value") for each in container["env"]}
    pause = float(container["lifecycle"]["preStop"]["exec"]["command"][1])
    grace = pod["terminationGracePeriodSeconds"]
    assert grace > pause + float(variables["FLETCHING_DRAIN_SECONDS"])
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    # A look at the parts takes up to five seconds.
    assert container["readinessProbe"]["timeoutSeconds"] > 5
    unit = (DEPLOY / "systemd" / "fletching@.service").read_text()
    stop = re.search(r"TimeoutStopSec=(\d+)s", unit)
    assert stop
    assert float(stop[1]) > ServerSettings().drain_seconds


def test_nginx_closes_idle_connections_before_a_server_that_stops_does() -> None:
    idle = seconds(nginx_value("keepalive_timeout", "upstream fletching"))
    for name in SERVERS:
        environment = COMPOSE["services"][name]["environment"]
        assert idle < float(environment["FLETCHING_DRAIN_IDLE_SECONDS"])
    assert idle < ServerSettings().keep_alive_seconds
    read = seconds(nginx_value("proxy_read_timeout", "location /"))
    assert read >= max(ServerSettings().reader_stall_seconds, ServerSettings().sql_seconds)


def test_nginx_and_compose_mean_the_same_servers() -> None:
    upstream = re.findall(r"server (fletching-\d):8787", CONFIGURATION.read_text())
    assert tuple(upstream) == SERVERS
    assert set(SERVERS) <= COMPOSE["services"].keys()
    assert COMPOSE["services"]["nginx"]["ports"] == ["127.0.0.1:8080:8080"]
    assert "listen 8080;" in CONFIGURATION.read_text()


# --- nginx, run ---

needs_nginx = pytest.mark.skipif(nginx_program() is None, reason="nginx is not installed")


@pytest.fixture
def balanced(tmp_path: Path) -> Iterator[tuple[Balancer, list[fletching.Server]]]:
    """Two servers over one folder behind nginx, and a third that is away."""
    keys = {"ak": "sk"}
    with contextlib.ExitStack() as stack:
        servers = [
            stack.enter_context(
                fletching.serve(tmp_path / "data", access_keys=keys, drain_idle_seconds=0.05)
            )
            for _ in range(2)
        ]
        with socket.create_server(("127.0.0.1", 0)) as away:
            port = away.getsockname()[1]
        balancer = stack.enter_context(Balancer([*(each.port for each in servers), port]))
        yield balancer, servers


@needs_nginx
def test_nginx_takes_the_configuration_without_a_warning(
    balanced: tuple[Balancer, list[fletching.Server]],
) -> None:
    assert balanced[0].check() == ""


@needs_nginx
def test_tables_pass_nginx_whole_in_both_directions(
    balanced: tuple[Balancer, list[fletching.Server]],
) -> None:
    table = pa.table({"id": pa.array(range(120_000)), "x": pa.array([0.5] * 120_000)})
    with fletching.connect(balanced[0].url, access_id="ak", access_key="sk") as client:
        # Two megabytes: twice what nginx takes by default.
        client.create_table("t", table)
        assert client.table("t").to_table() == table
        blob = bytes(3_000_000)
        client.create_table("b", pa.schema([("image", fletching.blob())]))
        client.table("b").append([{"image": blob}])
        assert client.table("b").count_rows() == 1
    odps = pytest.importorskip("odps")
    entry = odps.ODPS("ak", "sk", project="demo", endpoint=f"{balanced[0].url}/api")
    assert entry.exist_table("t")
    with entry.execute_sql("select count(*) c from t").open_reader(tunnel=False) as reader:
        assert int(reader[0][0]) == 120_000


@needs_nginx
def test_nginx_holds_neither_bodies_nor_replies_back() -> None:
    """A sender sees the server's answer before its body ends, a reader sees rows before the last one."""
    arrived = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                data = b""
                while b"first half" not in data:
                    data += connection.recv(1 << 16)
                arrived.set()
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
                )
                # Until the other side has seen that: the reply never ends before.
                while b"second half" not in data:
                    data += connection.recv(1 << 16)
                connection.sendall(b"0\r\n\r\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with (
            Balancer([listening.getsockname()[1]]) as balancer,
            socket.create_connection(("127.0.0.1", balancer.port), timeout=600) as client,
        ):
            client.sendall(
                b"POST /x HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\na\r\nfirst half\r\n"
            )
            assert arrived.wait(600)
            message = b""
            while b"hello" not in message:
                part = client.recv(1 << 16)
                assert part, message
                message += part
            client.sendall(b"b\r\nsecond half\r\n0\r\n\r\n")
            while not message.endswith(b"0\r\n\r\n"):
                message += client.recv(1 << 16)
        thread.join(600)
