from __future__ import annotations

import stat
import sys
import types
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fletching.client.profiles import Profile, Profiles, config_folder, default_name
from fletching.errors import UsageError

LAB = Profile("lab", "http://lab:8787", "zoo", "me", 'se"cr\\et\n')


def test_what_is_saved_is_read_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    profiles = Profiles(tmp_path / "new")
    assert profiles.names == []
    assert profiles.default is None
    profiles.save(LAB, keyring=False)
    profiles.save(Profile("home", "/srv/data"), default=False)
    assert stat.S_IMODE(profiles.path.stat().st_mode) == 0o600
    again = Profiles(tmp_path / "new")
    assert again.get("lab") == LAB
    assert again.get("home") == Profile("home", "/srv/data")
    assert (again.names, again.default) == (["home", "lab"], "lab")
    assert again.of_url("http://lab:8787/") == LAB
    assert again.of_url("http://other") is None
    assert again.remove("lab")
    assert not again.remove("lab")
    assert Profiles(tmp_path / "new").default == "home"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["config.toml"]


@given(st.text(), st.text(), st.text())
def test_any_text_survives(at: str, project: str, secret: str) -> None:
    import tempfile

    texts = [text.encode("utf-8", "replace").decode() for text in (at, project, secret)]
    with tempfile.TemporaryDirectory() as folder:
        profile = Profile("p", texts[0] or "x", texts[1], "id", texts[2])
        Profiles(Path(folder)).save(profile, keyring=False)
        assert Profiles(Path(folder)).get("p") == profile


@pytest.mark.parametrize("name", ["", "a b", "../x", "-x", "a" * 65, "é"])
def test_names_that_are_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="profile's name"):
        Profiles(tmp_path).save(Profile(name, "http://x"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    ["nonsense", "default = 1", "profiles = 1", "[profiles.x]\nat = 1", "[profiles.x]\n", "\xff"],
)
def test_a_file_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match=r"config\.toml"):
        Profiles(tmp_path)


def test_where_the_configuration_is() -> None:
    assert config_folder({"FLETCHING_CONFIG_DIR": "/a", "XDG_CONFIG_HOME": "/b"}) == Path("/a")
    assert config_folder({"XDG_CONFIG_HOME": "/b"}) == Path("/b/fletching")
    assert config_folder({}) == Path("~/.config/fletching").expanduser()
    assert default_name("http://127.0.0.1:8787/api") == "127-0-0-1-8787"


def test_a_keyring_keeps_the_secret_out_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: dict[tuple[str, str], str] = {}

    class Backend:
        priority = 5

    ring = types.ModuleType("keyring")
    ring.__dict__.update(
        get_keyring=Backend,
        set_password=lambda service, user, secret: kept.__setitem__((service, user), secret),
        get_password=lambda service, user: kept.get((service, user)),
        delete_password=lambda service, user: kept.pop((service, user)),
    )
    fail = types.ModuleType("keyring.backends.fail")
    fail.__dict__["Keyring"] = type("Keyring", (), {})
    backends = types.ModuleType("keyring.backends")
    backends.__dict__["fail"] = fail
    for module in (ring, backends, fail):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    profiles = Profiles(tmp_path)
    assert profiles.save(LAB) == "the system's keyring"
    assert "cr" not in profiles.path.read_text().replace("access", "")
    assert Profiles(tmp_path).get("lab") == LAB
    Profiles(tmp_path).remove("lab")
    assert kept == {}
