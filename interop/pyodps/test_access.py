"""Keys, grants, tokens, clocks and signatures as both PyODPS versions meet them."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from odps import ODPS, accounts, errors, options

from conftest import COMMAND, NEW, Service

if NEW:
    from odps.maxstorage import MaxStorageClient


def read_rows(o: ODPS, table: str) -> None:
    """Opens a read session, whichever way this version has."""
    if NEW:
        MaxStorageClient(o).create_table_read_session(table)
    else:
        from odps.apis.storage_api_v2 import StorageApiArrowClient

        StorageApiArrowClient(o, o.get_table(table)).create_read_session()


def open_write(o: ODPS, table: str) -> None:
    if NEW:
        MaxStorageClient(o).create_table_write_session(table).abort()
    else:
        from odps.apis.storage_api_v2 import StorageApiArrowClient

        StorageApiArrowClient(o, o.get_table(table)).create_write_session()


def failure(o: ODPS, name: str = "anything") -> Any:
    with pytest.raises(errors.ODPSError) as caught:
        o.get_table(name).reload()
    assert caught.value.request_id
    return caught.value


def test_a_wrong_secret_and_an_unknown_id_look_the_same(service: Service) -> None:
    wrong = failure(service.connect(secret="other"))
    unknown = failure(service.connect("nobody", "sk"))
    assert isinstance(wrong, errors.SignatureNotMatch)
    assert isinstance(unknown, errors.SignatureNotMatch)
    assert str(wrong.args[0]) == str(unknown.args[0])
    assert wrong.status_code == 403


def test_grants(service: Service, name: str) -> None:
    owner = service.connect()
    owner.create_table(name, "a bigint")
    owner.create_table(f"{name}_other", "a bigint")
    made = service.keys("create", f"k_{name}", "--grant", f"read:demo.{name}", "--json")
    reader = service.connect(made["access_id"], made["access_key"])
    assert reader.exist_table(name)
    read_rows(reader, name)
    for attempt in (
        lambda: open_write(reader, name),
        lambda: reader.get_table(f"{name}_other").reload(),
        lambda: read_rows(reader, f"{name}_other"),
        lambda: reader.create_table(f"{name}_new", "a bigint"),
        lambda: reader.delete_table(name),
    ):
        with pytest.raises(errors.NoPermission) as caught:
            attempt()
        assert caught.value.request_id
        assert caught.value.status_code == 403
    assert [table.name for table in reader.list_tables(prefix=name)] == [name]
    service.keys("grant", made["access_id"], f"write:demo.{name}")
    open_write(reader, name)
    service.keys("grant", made["access_id"], "admin:demo.*")
    reader.create_table(f"{name}_new", "a bigint")
    service.keys("grant", made["access_id"], "admin:demo.*", "--take-back")
    with pytest.raises(errors.NoPermission):
        reader.create_table(f"{name}_newer", "a bigint")


def test_a_key_without_grants_may_nothing(service: Service, name: str) -> None:
    made = service.keys("create", f"k_{name}", "--json")
    assert isinstance(
        failure(service.connect(made["access_id"], made["access_key"])), errors.NoPermission
    )


def test_expired_revoked_and_rotated_keys(service: Service, name: str) -> None:
    expired = service.keys(
        "create", f"e_{name}", "--grant", "admin", "--expires-in", "0s", "--json"
    )
    error = failure(service.connect(expired["access_id"], expired["access_key"]))
    assert isinstance(error, errors.AuthenticationRequestExpired)
    made = service.keys("create", f"r_{name}", "--grant", "admin", "--json")
    o = service.connect(made["access_id"], made["access_key"])
    assert not o.exist_table("surely_absent")
    rotated = service.keys("rotate", made["access_id"], "--json")
    assert isinstance(failure(o), errors.SignatureNotMatch)
    o = service.connect(made["access_id"], rotated["access_key"])
    assert not o.exist_table("surely_absent")
    service.keys("revoke", made["access_id"])
    assert isinstance(failure(o), errors.SignatureNotMatch)


def test_temporary_keys_need_their_token(service: Service, name: str) -> None:
    made = service.keys("create", f"s_{name}", "--grant", "admin", "--sts", "--json")
    endpoint = f"{service.url}/api"
    account = accounts.StsAccount(made["access_id"], made["access_key"], made["security_token"])
    assert not ODPS(account=account, project="demo", endpoint=endpoint).exist_table("surely_absent")
    for token in ("wrong", None):
        account = accounts.StsAccount(
            made["access_id"], made["access_key"], token, expired_hours=None
        )
        o = ODPS(account=account, project="demo", endpoint=endpoint)
        assert isinstance(failure(o), errors.SignatureNotMatch)


def test_bearer_tokens(service: Service, name: str) -> None:
    made = service.keys("create", f"b_{name}", "--grant", "admin", "--json")
    endpoint = f"{service.url}/api"

    def connect(token: str) -> ODPS:
        account = accounts.BearerTokenAccount(get_bearer_token_fun=lambda: token)
        return ODPS(account=account, project="demo", endpoint=endpoint)

    token = service.keys("token", made["access_id"]).strip()
    o = connect(token)
    o.create_table(name, "a bigint")
    read_rows(o, name)
    ended = service.keys("token", made["access_id"], "--expires-in", "0s").strip()
    assert isinstance(failure(connect(ended)), errors.AuthenticationRequestExpired)
    assert isinstance(failure(connect(token[:-8] + "AAAAAAA=")), errors.Unauthorized)


def test_version_4_signatures(service: Service, name: str) -> None:
    options.enable_v4_sign = True
    try:
        o = ODPS("ak", "sk", project="demo", endpoint=f"{service.url}/api", region_name="cn-test")
        o.create_table(name, "a bigint")
        read_rows(o, name)
        wrong = ODPS(
            "ak", "no", project="demo", endpoint=f"{service.url}/api", region_name="cn-test"
        )
        assert isinstance(failure(wrong), errors.SignatureNotMatch)
    finally:
        options.enable_v4_sign = False


def test_applications_sign_as_well(service: Service) -> None:
    def connect(secret: str) -> ODPS:
        return service.connect(app_account=accounts.AppAccount("ak", secret))

    assert not connect("sk").exist_table("surely_absent")
    assert isinstance(failure(connect("no")), errors.SignatureNotMatch)


@pytest.fixture
def wrong_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """This computer's clock is 20 minutes slow; PyODPS itself is as installed."""
    from odps import accounts as module

    now = dt.datetime.now(dt.UTC).timestamp() - 1200
    monkeypatch.setattr(
        module.utils, "formatdate", lambda usegmt=False: formatdate(now, usegmt=usegmt)
    )


@pytest.mark.usefixtures("wrong_clock")
def test_a_skewed_clock(service: Service) -> None:
    error = failure(service.connect())
    assert isinstance(error, errors.RequestTimeTooSkewed)
    assert error.max_interval_date == 900_000
    assert abs((error.now_date - error.expire_date).total_seconds() - 1200) < 60


def test_characters_that_need_encoding(service: Service, name: str) -> None:
    o = service.connect()
    table = o.create_table(name, ("a bigint", "pt string"))
    for value in ("x y", "a+b", "50%", "ä ö", "a&b", "a;b"):
        table.create_partition(f"pt='{value}'")
        assert table.exist_partition(f"pt='{value}'"), value
    assert len(list(table.partitions)) == 6


def test_tls(tmp_path: Path) -> None:
    certificate = tmp_path / "certificate.pem"
    key = tmp_path / "key.pem"
    made = subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=127.0.0.1",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            str(key),
            "-out",
            str(certificate),
        ],
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip("openssl is not here to make a certificate")
    service = Service(
        tmp_path / "data", tls_certificate=str(certificate), tls_key=str(key), drain_seconds="2"
    )
    before = options.verify_ssl
    try:
        assert service.url.startswith("https://")
        options.verify_ssl = str(certificate)
        o = service.connect()
        o.create_table("t", "a bigint")
        read_rows(o, "t")
    finally:
        options.verify_ssl = before
        service.stop()


@pytest.mark.skipif("FLETCHING_TEST_SERVERS" in os.environ, reason="each server counts for itself")
def test_guessing_is_slowed_down(tmp_path: Path) -> None:
    service = Service(
        tmp_path / "data", auth_failures="3", key_refresh_seconds="0", drain_seconds="2"
    )
    try:
        wrong = service.connect(secret="guess")
        seen = []
        for _ in range(4):
            with pytest.raises(errors.ODPSError) as caught:
                wrong.get_table("t").reload()
            seen.append(type(caught.value).__name__)
        # a lookup may ask twice, so how many got through differs
        assert seen[0] == "SignatureNotMatch"
        assert seen[-1] == "FlowExceeded"
        # whoever has the right secret is not kept out by another's guesses
        assert not service.connect().exist_table("t")
        other = service.keys("create", "other", "--grant", "admin", "--json")
        assert not service.connect(other["access_id"], other["access_key"]).exist_table("t")
    finally:
        service.stop()


def test_anonymous_only_where_it_is_allowed(tmp_path: Path) -> None:
    refused = subprocess.run(
        [COMMAND, "serve", str(tmp_path / "x"), "--host", "0.0.0.0", "--port", "0"],
        env={"FLETCHING_ALLOW_ANONYMOUS": "true", "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert refused.returncode == 2
    assert "loopback" in refused.stderr
