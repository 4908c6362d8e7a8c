"""Settings as an operator sees them: where each came from, and no secret among them."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fletching.engine.engine_settings import EngineSettings
from fletching.server.console.operator.settings_page import settings_page
from fletching.server.server_settings import ServerSettings

SECRET = "5ec2e7" * 10 + "abcd"


def shown(engine: EngineSettings, **asked: str) -> dict[str, dict[str, Any]]:
    result: dict[str, Any] = {}

    async def show(_template: str, _title: str, data: dict[str, Any], **_: object) -> None:
        result.update(data)

    service = SimpleNamespace(
        settings=ServerSettings(max_reads=7),
        engine=SimpleNamespace(context=SimpleNamespace(settings=engine)),
    )
    visit = SimpleNamespace(
        service=service, asked=asked, origin="http://here", pages=SimpleNamespace(show=show)
    )
    asyncio.run(settings_page(cast("Any", visit)))
    return {each["name"]: each for each in result["settings"]}


def test_secrets_are_not_shown() -> None:
    engine = EngineSettings(
        server_key=SECRET,
        catalog_url="postgresql://ann:zqx9@zqx8@db:5432/f?sslpassword=zqx7&application_name=x",
        objects_url="s3://bucket/prefix?secret_access_key=zqx6",
    )
    result = shown(engine)
    text = str(result)
    for secret in (SECRET, "zqx9", "zqx8", "zqx7", "zqx6"):
        assert secret not in text
    assert result["server_key"]["value"] == "***"
    assert result["catalog_url"]["value"] == "postgresql://db:5432/f"


def test_every_setting_says_where_it_is_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLETCHING_CATALOG", "postgresql://db/f")
    result = shown(EngineSettings(catalog_url="postgresql://db/f"))
    assert result["max_reads"]["origin"] == "option or file"
    assert result["max_calls"]["origin"] == "default"
    assert result["write_limits"]["origin"] == "default"
    assert result["catalog_url"]["origin"] == "environment (FLETCHING_CATALOG)"
    assert set(shown(EngineSettings(), q="MAX_READS")) == {"max_reads"}
