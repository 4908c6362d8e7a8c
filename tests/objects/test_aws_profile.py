"""Keys of S3 from the files of the aws command: found, read again, or refused with a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.seaweedfs import KEY, SECRET, ObjectStorage

from fletching.errors import StorageError
from fletching.objects.aws_profile import aws_options
from fletching.objects.remote_store import RemoteStore


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    folder = tmp_path / ".aws"
    folder.mkdir()
    (folder / "credentials").write_text(
        "[default]\naws_access_key_id = one\naws_secret_access_key = two\n"
        "[other]\naws_access_key_id = three\naws_secret_access_key = four%\n"
        "aws_session_token = five\n[half]\naws_access_key_id = six\n"
    )
    (folder / "config").write_text(
        "[default]\nregion = eu-north-1\n[profile other]\nregion = us-west-2\n"
        "[profile signs-on]\nsso_session = x\n"
    )
    return {"HOME": str(tmp_path)}


def test_the_default_profile(home: dict[str, str]) -> None:
    options = aws_options(home)
    credentials = options["credential_provider"]()
    assert (credentials["access_key_id"], credentials["secret_access_key"]) == ("one", "two")
    assert credentials["token"] is None
    assert options["config"] == {"aws_region": "eu-north-1"}


def test_a_profile_by_name(home: dict[str, str]) -> None:
    options = aws_options({**home, "AWS_PROFILE": "other", "AWS_REGION": "here"})
    credentials = options["credential_provider"]()
    assert (credentials["secret_access_key"], credentials["token"]) == ("four%", "five")
    assert "config" not in options


def test_the_files_are_read_again(home: dict[str, str], tmp_path: Path) -> None:
    provider = aws_options(home)["credential_provider"]
    (tmp_path / ".aws" / "credentials").write_text(
        "[default]\naws_access_key_id = new\naws_secret_access_key = two\n"
    )
    assert provider()["access_key_id"] == "new"


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE"])
def test_the_environment_comes_first(home: dict[str, str], name: str) -> None:
    assert aws_options({**home, name: "x"}) == {}


def test_no_files_is_no_error(tmp_path: Path) -> None:
    assert aws_options({"HOME": str(tmp_path)}) == {}


@pytest.mark.parametrize(
    ("profile", "reason"),
    [("absent", "no profile"), ("signs-on", "sso_session"), ("half", "no aws_secret_access_key")],
)
def test_profiles_that_give_no_keys(home: dict[str, str], profile: str, reason: str) -> None:
    with pytest.raises(StorageError, match=reason):
        aws_options({**home, "AWS_PROFILE": profile})


def test_a_file_that_is_none(home: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / ".aws" / "credentials").write_bytes(b"\xff\xfe no section\n")
    with pytest.raises(StorageError, match="cannot be read"):
        aws_options(home)


def test_a_store_opens_by_a_profile(
    s3: ObjectStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "keys"
    file.write_text(f"[ours]\naws_access_key_id={KEY}\naws_secret_access_key={SECRET}\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_PROFILE", "ours")
    store = RemoteStore(s3.create())
    with store.create("tables/t/w-1") as sink:
        sink.write(b"hello")
        sink.commit()
    assert bytes(store.open("tables/t/w-1").read(0, 5)) == b"hello"
    (url,) = store.sign(["tables/t/w-1"], 60)
    assert "X-Amz-Signature" in url
    store.close()
