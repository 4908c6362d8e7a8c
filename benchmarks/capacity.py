"""Which part saturates first when servers and clients are added? A model on paper, not a measurement.

A closed queueing network, solved by mean value analysis. Each of ``clients`` does the same again and again:
thinks, opens a read session, reads some bytes of a table, and in some of its rounds commits a write. A round
asks each part for some seconds of work, its *demand*; parts work on one request at a time per core, link or
lock, and others wait in line. What is modelled, with where its demand comes from:

======================  ======================================================================================
part                    demand of one round
======================  ======================================================================================
server CPU              a session and a plan; bytes that pass through the server; a commit; what a commit of
                        anybody makes the snapshot of every server grow by; spread over all cores of all servers
server network          bytes that pass through the server, spread over all servers
database                statements of a session and of a commit, spread over its cores
table lock              a commit, from the lock of the table's row to the end of the transaction; one per table
object store            bytes over its bandwidth, and requests over its rate
client network          bytes, one link per client: never in line, only time
======================  ======================================================================================

The defaults are what ``benchmarks`` measured on two shared cores, rounded up; give your own. With ``direct`` reads
only manifests pass through a server. Not modelled: caches of the object store, retries, uneven tables, PostgreSQL's
own disk, and bursts; a part that is used above 0.8 has no room for those.

    python benchmarks/capacity.py --clients 10000 --servers 3 --segments 1000000
    python benchmarks/capacity.py --clients 10000 --servers 3 --direct
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence

MIB = 1 << 20


@dataclasses.dataclass(frozen=True)
class Load:
    """Who asks for what, and of how much of each part there is."""

    clients: int = 1000
    think_seconds: float = 30.0
    read_bytes: float = 256 * MIB
    commits_per_round: float = 0.05
    tables: int = 10
    segments: int = 1_000_000
    direct: bool = False
    cached: bool = False

    servers: int = 3
    server_cores: int = 4
    server_link: float = 25e9 / 8
    database_cores: int = 8
    store_bandwidth: float = 100e9 / 8
    store_requests: float = 5_500.0
    client_link: float = 10e9 / 8

    session_cpu: float = 0.003
    plan_cpu_per_segment: float = 60e-9
    growth_cpu_per_segment: float = 15e-9
    through_cpu_per_byte: float = 0.65e-9
    cached_cpu_per_byte: float = 0.35e-9
    commit_cpu: float = 0.010
    session_database: float = 0.0006
    commit_database: float = 0.006
    commit_lock: float = 0.008
    manifest_bytes: float = 64 << 10
    bytes_per_request: float = 4 * MIB


def demands(load: Load) -> dict[str, float]:
    """Seconds of work that one round asks of each part, divided by how many of the part work at once."""
    through = load.manifest_bytes if load.direct else load.read_bytes
    per_byte = load.cached_cpu_per_byte if load.cached else load.through_cpu_per_byte
    from_store = 0.0 if load.cached and not load.direct else load.read_bytes
    segments = load.segments / load.tables
    cpu = load.session_cpu + load.plan_cpu_per_segment * segments
    cpu += through * per_byte
    # Each commit makes the snapshot of its table grow in every server that reads it.
    growth = load.servers * load.growth_cpu_per_segment * segments
    cpu += load.commits_per_round * (load.commit_cpu + growth)
    database = load.session_database + load.commits_per_round * load.commit_database
    return {
        "server CPU": cpu / (load.servers * load.server_cores),
        "server network": through / (load.servers * load.server_link),
        "database": database / load.database_cores,
        "table lock": load.commits_per_round * load.commit_lock / load.tables,
        "object store, bytes": from_store / load.store_bandwidth,
        "object store, requests": from_store / load.bytes_per_request / load.store_requests,
    }


@dataclasses.dataclass(frozen=True)
class Answer:
    """What comes of a load.

    Attributes:
        rounds_per_second: of all clients together.
        round_seconds: of one client, without its thinking.
        used: the share of time that each part works.
    """

    rounds_per_second: float
    round_seconds: float
    used: dict[str, float]

    @property
    def first(self) -> str:
        """The part that saturates first."""
        return max(self.used, key=self.used.__getitem__)


def solve(load: Load) -> Answer:
    """Mean value analysis: what a client finds in line is what the others leave there on average."""
    parts = demands(load)
    alone = load.think_seconds + load.read_bytes / load.client_link
    waiting = dict.fromkeys(parts, 0.0)
    rate = 0.0
    for clients in range(1, load.clients + 1):
        times = {name: demand * (1 + waiting[name]) for name, demand in parts.items()}
        rate = clients / (alone + sum(times.values()))
        waiting = {name: rate * seconds for name, seconds in times.items()}
    used = {name: rate * demand for name, demand in parts.items()}
    return Answer(rate, load.clients / rate - load.think_seconds, used)


def table(loads: Sequence[Load]) -> str:
    """The answers, a line each."""
    lines = ["| servers | clients | reads | GB/s | seconds a read | first to saturate | used |"]
    lines += ["|---:|---:|---|---:|---:|---|---:|"]
    for load in loads:
        answer = solve(load)
        way = "direct" if load.direct else "cached" if load.cached else "through servers"
        lines.append(
            f"| {load.servers} | {load.clients:,} | {way} |"
            f" {answer.rounds_per_second * load.read_bytes / 1e9:.2f} | {answer.round_seconds:.1f} |"
            f" {answer.first} | {answer.used[answer.first]:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for field in dataclasses.fields(Load):
        name = f"--{field.name.replace('_', '-')}"
        if isinstance(field.default, bool):
            parser.add_argument(name, action="store_true")
        else:
            parser.add_argument(name, type=type(field.default))
    given = {name: value for name, value in vars(parser.parse_args()).items() if value is not None}
    if any(value for value in given.values()):
        load = Load(**given)
        print(table([load]))
        for name, share in sorted(solve(load).used.items(), key=lambda item: -item[1]):
            print(f"{name:24} {share:6.2f}")
        return
    print(table(standard()))


def standard() -> list[Load]:
    """The loads of docs/performance.md."""
    ways = ({}, {"cached": True}, {"direct": True})
    return [
        dataclasses.replace(Load(), clients=clients, servers=servers, **way)
        for clients, servers in ((100, 1), (100, 3), (1_000, 3), (10_000, 3), (10_000, 30))
        for way in ways
    ]


if __name__ == "__main__":
    main()
