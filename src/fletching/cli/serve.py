"""``fletching serve``: runs the service over a data folder until it is told to stop."""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fletching.cli.cli_options import storage_options, with_options
from fletching.cli.output import print_json, say
from fletching.errors import UsageError
from fletching.server.logs import log_to
from fletching.server.server_settings import is_loopback
from fletching.settings import StorageSettings

if TYPE_CHECKING:
    from fletching.server.server import Server

__all__ = ["serve"]


def _with_storage(command: Callable[..., None]) -> Callable[..., None]:
    """Gives the command the options that say where a data set is; it gets them as a dict."""
    signature = inspect.signature(command, eval_str=True)
    own = [each for each in signature.parameters.values() if each.name != "storage"]
    options = storage_options(hidden=False)

    @functools.wraps(command)
    def run(**words: Any) -> None:
        command(storage={name: words.pop(name, None) for name in options}, **words)

    return with_options(run, signature, own, options)


@_with_storage
def serve(
    storage: dict[str, Any],
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FOLDER]",
            envvar="FLETCHING_FOLDER",
            help="The data folder; created if it does not exist. Not needed where catalog, objects "
            "and server key are elsewhere.",
            show_default=False,
        ),
    ] = None,
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
            metavar="FILE",
            help="A file of such keys, one a line, so that no secret is in the list of processes. "
            "[env var: FLETCHING_SERVER_ACCESS_KEY_FILE]",
        ),
    ] = None,
    project: Annotated[
        str | None,
        typer.Option(
            envvar="FLETCHING_PROJECT", help="The project that exists from the start. [demo]"
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
    maintenance: Annotated[
        bool | None,
        typer.Option(
            "--maintenance/--no-maintenance",
            help="Compact and collect in the background; off where fletching maintain does. [on]",
        ),
    ] = None,
    access_log: Annotated[
        bool | None,
        typer.Option("--access-log/--no-access-log", help="One line per request on stderr. [on]"),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            envvar="FLETCHING_WORKERS", help="Processes that serve the port together. [1]"
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print where it serves as JSON, for machines.")
    ] = False,
) -> None:
    """Serve a data folder, or a data set elsewhere, over HTTP until SIGTERM or Ctrl-C, then drain.

    Every other setting is an environment variable FLETCHING_<NAME>, or a line of the file of --config;
    docs/operations.md lists them.
    """
    from fletching.engine.engine_settings import EngineSettings
    from fletching.server.serving import make_server, read_all_settings
    from fletching.server.tracing import provide

    config = storage.pop("config")
    data_set, settings = read_all_settings(
        {
            **storage,
            "folder": folder,
            "host": host,
            "port": port,
            "project": project,
            "tls_certificate": tls_certificate,
            "tls_key": tls_key,
            "allow_anonymous": allow_anonymous,
            "access_log": access_log,
            "workers": workers,
            "maintenance": maintenance,
            "server_access_key_file": access_key_file,
        },
        config,
    )
    if not data_set.says_where:
        raise UsageError(
            "there is nothing to serve: give a data folder, or --catalog and --objects"
        )
    keys = _keys(access_key or (), settings.server_access_key_file)
    log_to(None, settings.log_format)
    if settings.tracing:
        provide()
    parts = EngineSettings.of(data_set, create_projects=False)
    server = make_server(data_set.folder, keys, settings, parts)
    _warn_of_plain_http(server)
    server.run(lambda: _announce(server, data_set, as_json=as_json))
    if not as_json:
        say("stopped")


def _keys(given: Sequence[str], file: str | None) -> dict[str, str] | None:
    """The keys of the command line with those of the file; None where the server finds its keys itself."""
    from fletching.server.auth.key_ring import keys_in, parse_key

    keys = dict(map(parse_key, given))
    if keys and file:
        keys |= keys_in(Path(file))
    if not (keys or file) and os.environ.get("FLETCHING_ACCESS_KEY"):
        say(
            "note: FLETCHING_ACCESS_KEY is what clients sign with; the keys of a server are "
            "FLETCHING_SERVER_ACCESS_KEY. The folder's own key is used."
        )
    return keys or None


def _announce(server: Server, data_set: StorageSettings, *, as_json: bool) -> None:
    if not as_json:
        _introduce(server, data_set)
        return
    access_id, secret = server.access_key
    document = {"url": server.url, "project": server.settings.project, "access_id": access_id}
    if server.new_key:
        document["access_key"] = secret
    print_json(document)
    sys.stdout.flush()


def _introduce(server: Server, data_set: StorageSettings) -> None:
    """Says where the service is and how to reach it; a new key's secret is shown this once."""
    access_id, secret = server.access_key
    # A secret that was shown before, or that came on the command line, is not shown again.
    access_id, shown = access_id or "ID", secret if server.new_key else "SECRET"
    project = server.settings.project
    lines = [f"serving {data_set} on {server.url}, project {project}"]
    if server.new_key:
        lines += [
            "",
            f"access key (new, shown this once, kept in {data_set.folder}/access-key):",
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


def _warn_of_plain_http(server: Server) -> None:
    host = server.settings.host
    if server.settings.tls_certificate is None and not is_loopback(host):
        say(
            f"warning: plain HTTP on {host or 'every address'}, port {server.port}: whoever is on the way "
            "can read the tables. Give --tls-certificate, or put a proxy that speaks TLS in front "
            "and listen on 127.0.0.1."
        )
