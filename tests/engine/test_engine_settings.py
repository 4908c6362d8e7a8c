"""Settings of an engine: defaults that fit one host, and places from the environment."""

from __future__ import annotations

import dataclasses

import pytest

from fletching.engine.engine_settings import EngineSettings
from fletching.errors import FletchingError

LOCATIONS = {
    "FLETCHING_CATALOG": "postgresql://u:secret@h/d",
    "FLETCHING_OBJECTS": "s3://bucket/prefix",
    "FLETCHING_SERVER_KEY": "ab" * 32,
}


def test_an_empty_environment_means_the_folder() -> None:
    assert EngineSettings.from_environment({}) == EngineSettings()
    assert EngineSettings().catalog_url is None
    assert EngineSettings().objects_url is None


def test_places_come_from_the_environment_and_arguments_win() -> None:
    settings = EngineSettings.from_environment(LOCATIONS, create_projects=False)
    assert settings.catalog_url == LOCATIONS["FLETCHING_CATALOG"]
    assert settings.objects_url == LOCATIONS["FLETCHING_OBJECTS"]
    assert settings.server_key == LOCATIONS["FLETCHING_SERVER_KEY"]
    assert not settings.create_projects
    assert LOCATIONS["FLETCHING_SERVER_KEY"] not in repr(settings)
    other = EngineSettings.from_environment(LOCATIONS, objects="gs://other")
    assert other.objects_url == "gs://other"


def test_a_variable_of_our_name_that_nobody_knows_is_a_mistake() -> None:
    with pytest.raises(FletchingError, match="FLETCHING_CATALOGUE"):
        EngineSettings.from_environment({"FLETCHING_CATALOGUE": "x"})


def test_every_setting_is_explained_and_has_a_default() -> None:
    text = EngineSettings.__doc__ or ""
    for field in dataclasses.fields(EngineSettings):
        assert f"{field.name}:" in text, field.name
        assert (
            field.default is not dataclasses.MISSING
            or field.default_factory is not dataclasses.MISSING
        )


def test_what_one_message_of_an_upload_may_take_is_what_the_docs_say() -> None:
    limits, mib = EngineSettings().write_limits, 1 << 20
    assert limits.max_metadata_bytes == 16 * mib
    assert limits.max_body_bytes == limits.max_dictionary_bytes == 512 * mib
    assert limits.max_uncompressed_bytes == 1024 * mib
