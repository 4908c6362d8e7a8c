"""``fletching serve``: runs the service over a data folder until it is told to stop."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fletching.cli.output import print_json, say
from fletching.errors import UsageError

if TYPE_CHECKING:
    from fletching.server.server import Server

__all__ = ["serve"]


def serve(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="The data folder; created if it does not exist."),
    ],
    host: Annotated[
        str | None, typer.Option(envvar="FLETCHING_HOST", help="Address to listen on. [127.0.0.1]")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(envvar="FLETCHING_PORT", help="Port to listen on; 0 takes a free one. [8787]"),
    ] = None,
    access_key: Annotated[
        list[str] | None,
        typer.Option(
            envvar="FLETCHING_SERVER_ACCESS_KEY",
            metavar="ID:SECRET",
            help="A key that may sign requests; may be repeated. Without any the folder's own is used, generated at the first start.",
        ),
    ] = None,
    access_key_file: Annotated[
        Path | None,
        typer.Option(
            envvar="FLETCHING_SERVER_ACCESS_KEY_FILE",
            metavar="FILE",
            help="A file of such keys, one a line, so that no secret is in the list of processes.",
        ),
    ] = None,
    project: Annotated[
        str | None,
        typer.Option(
            envvar="FLETCHING_PROJECT", help="The project that exists from the start. [demo]"
        ),
    ] = None,
    catalog: Annotated[
        str | None,
        typer.Option(
            envvar="FLETCHING_CATALOG",
            metavar="URL",
            help="Keep the catalog in PostgreSQL (postgresql://...) instead of the folder.",
        ),
    ] = None,
    objects: Annotated[
        str | None,
        typer.Option(
            envvar="FLETCHING_OBJECTS",
            metavar="URL",
            help="Keep objects in an object store (s3://bucket/prefix, gs://, az://).",
        ),
    ] = None,
    server_key_file: Annotated[
        Path | None,
        typer.Option(
            envvar="FLETCHING_SERVER_KEY_FILE",
            metavar="FILE",
            help="The secret that all servers of one data set share. [server.key in the folder]",
        ),
    ] = None,
    tls_certificate: Annotated[
        Path | None, typer.Option(metavar="PEM", help="Certificate chain; with it TLS is spoken.")
    ] = None,
    tls_key: Annotated[
        Path | None,
        typer.Option(metavar="PEM", help="Private key, if the certificate's file lacks it."),
    ] = None,
    allow_anonymous: Annotated[
        bool | None,
        typer.Option(
            "--allow-anonymous",
            help="Let unsigned requests do everything; only on a loopback address.",
        ),
    ] = None,
    access_log: Annotated[
        bool | None,
        typer.Option("--access-log/--no-access-log", help="One line per request on stderr. [on]"),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print where it serves as JSON, for machines.")
    ] = False,
) -> None:
    """Serve a data folder over HTTP until SIGTERM or Ctrl-C, then drain.

    Every other setting is an environment variable FLETCHING_<NAME>; docs/operations.md lists them.
    """
    from fletching.engine.engine_settings import EngineSettings
    from fletching.server.auth.key_ring import parse_key
    from fletching.server.server import Server
    from fletching.server.server_settings import ServerSettings

    settings = ServerSettings.from_environment(
        os.environ,
        host=host,
        port=port,
        project=project,
        tls_certificate=str(tls_certificate) if tls_certificate else None,
        tls_key=str(tls_key) if tls_key else None,
        allow_anonymous=allow_anonymous,
        access_log=access_log,
    )
    parts = EngineSettings.from_environment(
        os.environ,
        catalog=catalog,
        objects=objects,
        server_key_file=server_key_file,
        create_projects=False,
    )
    given = [*(access_key or ()), *_keys_in(access_key_file)]
    if not given and os.environ.get("FLETCHING_ACCESS_KEY"):
        say(
            "note: FLETCHING_ACCESS_KEY is what clients sign with; the keys of a server are "
            "FLETCHING_SERVER_ACCESS_KEY. The folder's own key is used."
        )
    _log_to_stderr()
    server = Server(folder, dict(map(parse_key, given)) if given else None, settings, parts)
    _warn_of_plain_http(server)
    server.run(lambda: _announce(server, folder, as_json=as_json))
    if not as_json:
        say("stopped")


def _announce(server: Server, folder: Path, *, as_json: bool) -> None:
    if not as_json:
        _introduce(server, folder)
        return
    access_id, secret = server.access_key
    document = {"url": server.url, "project": server.settings.project, "access_id": access_id}
    if server.new_key:
        document["access_key"] = secret
    print_json(document)
    sys.stdout.flush()


def _introduce(server: Server, folder: Path) -> None:
    """Says where the service is and how to reach it; a new key's secret is shown this once."""
    access_id, secret = server.access_key
    # A secret that was shown before, or that came on the command line, is not shown again.
    shown = secret if server.new_key else "SECRET"
    project = server.settings.project
    lines = [f"serving {folder} on {server.url}, project {project}"]
    if server.new_key:
        lines += [
            "",
            f"access key (new, shown this once, kept in {folder}/access-key):",
            f"  {access_id}:{secret}",
        ]
    lines += [
        "",
        "connect with",
        f'  fletching.connect("{server.url}", project="{project}", access_id="{access_id}", access_key="{shown}")',
        f'  odps.ODPS("{access_id}", "{shown}", project="{project}", endpoint="{server.url}/api")',
        f"console: {server.url}/console    health: {server.url}/healthz    stop: Ctrl-C",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def _keys_in(path: Path | None) -> list[str]:
    if path is None:
        return []
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"the access keys in {path} cannot be read: {exc}") from exc
    found = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not found:
        raise UsageError(f"{path} holds no access key; each is a line ID:SECRET")
    return found


def _warn_of_plain_http(server: Server) -> None:
    from fletching.server.server_settings import is_loopback

    host = server.settings.host
    if server.settings.tls_certificate is None and not is_loopback(host):
        say(
            f"warning: plain HTTP on {host or 'every address'}, port {server.port}: whoever is on the way "
            "can read the tables. Give --tls-certificate, or put a proxy that speaks TLS in front "
            "and listen on 127.0.0.1."
        )


def _log_to_stderr() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    root = logging.getLogger("fletching")
    root.addHandler(handler)
    root.setLevel(logging.INFO)
