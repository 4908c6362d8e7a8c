"""Access keys of S3 from the files of the ``aws`` command, where the environment has none.

obstore takes keys from the environment (``AWS_ACCESS_KEY_ID``), from web identity tokens and from the services
of containers and instances. The files are read here: ``~/.aws/credentials`` and ``~/.aws/config``, or where
``AWS_SHARED_CREDENTIALS_FILE`` and ``AWS_CONFIG_FILE`` say, the profile that ``AWS_PROFILE`` names, or
``default``. They are read again every few minutes, since tools that hand out keys for a while write them there.
Profiles that need a call to somebody (roles, single sign-on, processes) are refused with a sentence.
"""

from __future__ import annotations

import configparser
import datetime as dt
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NotRequired, TypedDict

from fletching.errors import StorageError

__all__ = ["aws_keys", "aws_options"]

_ENVIRONMENT = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_SKIP_SIGNATURE",
)
_NEEDS_A_CALL = ("credential_process", "role_arn", "sso_session", "sso_start_url", "login_session")
_READ_AGAIN = dt.timedelta(minutes=5)


class Keys(TypedDict):
    """What requests are signed with."""

    access_key_id: str
    secret_access_key: str
    token: str | None
    expires_at: NotRequired[dt.datetime]


class AwsOptions(TypedDict, total=False):
    """What obstore is given beside a URL."""

    credential_provider: Callable[[], Keys]
    config: dict[str, str]


def aws_options(environment: Mapping[str, str]) -> AwsOptions:
    """What an S3 store is given beside its URL: a profile's keys and region, where they are needed.

    Raises:
        StorageError: the profile that is named does not exist, or its keys cannot be had from files.
    """
    if any(environment.get(name) for name in _ENVIRONMENT):
        return {}
    name = environment.get("AWS_PROFILE") or "default"
    result = _profile(environment, name)
    if result is None:
        if not environment.get("AWS_PROFILE"):
            return {}
        raise StorageError(f"there is no profile {name!r} in the files of AWS credentials")
    options: AwsOptions = {}
    if "aws_access_key_id" in result:
        options["credential_provider"] = _provider(environment, name)
    else:
        wanted = [key for key in _NEEDS_A_CALL if key in result]
        if wanted:
            raise StorageError(
                f"the AWS profile {name!r} has {wanted[0]}, which needs another program: put keys into"
                " the environment (aws configure export-credentials --format env), or name a profile"
                " that has them"
            )
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    if not region and "region" in result:
        options["config"] = {"aws_region": result["region"]}
    return options


def aws_keys(environment: Mapping[str, str]) -> Keys | None:
    """The keys themselves, where the environment or a file has them: ``access_key_id`` and so on.

    Raises:
        StorageError: as of ``aws_options``.
    """
    if environment.get("AWS_ACCESS_KEY_ID") and environment.get("AWS_SECRET_ACCESS_KEY"):
        return {
            "access_key_id": environment["AWS_ACCESS_KEY_ID"],
            "secret_access_key": environment["AWS_SECRET_ACCESS_KEY"],
            "token": environment.get("AWS_SESSION_TOKEN"),
        }
    provider = aws_options(environment).get("credential_provider")
    return None if provider is None else provider()


def _provider(environment: Mapping[str, str], name: str) -> Callable[[], Keys]:
    environment = dict(environment)

    def credentials() -> Keys:
        result = _profile(environment, name) or {}
        try:
            return {
                "access_key_id": result["aws_access_key_id"],
                "secret_access_key": result["aws_secret_access_key"],
                "token": result.get("aws_session_token"),
                "expires_at": dt.datetime.now(dt.UTC) + _READ_AGAIN,
            }
        except KeyError as error:
            raise StorageError(f"the AWS profile {name!r} has no {error.args[0]}") from None

    credentials()
    return credentials


def _profile(environment: Mapping[str, str], name: str) -> dict[str, str] | None:
    """What both files say of a profile, the one of keys first; None if neither knows it."""
    home = Path(environment.get("HOME") or "/")
    files = (
        (environment.get("AWS_CONFIG_FILE") or home / ".aws" / "config", f"profile {name}"),
        (environment.get("AWS_SHARED_CREDENTIALS_FILE") or home / ".aws" / "credentials", name),
    )
    result: dict[str, str] = {}
    known = False
    for path, section in files:
        parser = configparser.RawConfigParser(strict=False)
        try:
            parser.read_string(Path(path).read_text("utf-8"), str(path))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, configparser.Error) as error:
            raise StorageError(f"the AWS file {path} cannot be read: {error}") from None
        wanted = name if name == "default" else section
        if parser.has_section(wanted):
            known = True
            result.update(parser.items(wanted))
    return result if known else None
