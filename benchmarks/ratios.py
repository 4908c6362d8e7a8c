"""The ratios that are promised, from one run's results, and the check against recorded medians.

Ratios only: absolute times belong to a machine and an hour. A ratio is recorded as the median of
several runs, for each kind of processor: what copying, a system call and an instruction cost beside
each other differs between two kinds by more than a change of the code should pass with. A run fails
the check where a ratio has fallen by more than a third below its record.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.remote import AT_REST, SEGMENTS
from benchmarks.rounds import Result
from fletching.range_joining import BYTES_PER_REQUEST

__all__ = ["CHECKED", "RECORD", "TARGETS", "compute", "expected", "fallen", "load_records"]

RECORD = Path(__file__).parent / "recorded_ratios.json"
ALLOWED_FALL = 1 / 3
ALLOWED_FALL_OF_PROCESSOR_TIME = 1 / 4
"""Others' work on the machine makes it rise, too, but less than it does the time by the clock."""
PROCESSOR_TIME = ", processor time"
"""How the names of its ratios end."""
COUNTS = "remote: requests allowed / made"
"""What begins so is counted, not timed: whatever was recorded, it may not fall below its promise."""

# name: the least value that is promised; upper bounds are turned over
TARGETS: dict[str, float] = {
    "default read, sent / raw socket": 0.9,
    "default read, sent / Flight DoGet": 1.8,
    "default read, sent / PyODPS": 1.8,
    "default read, sent / PyODPS as it is by default": 1.8,
    "to_table, sent / raw socket": 0.75,
    "to_pandas of numbers, sent / raw socket": 0.75,
    "to_table, sent / raw socket, all kept": 0.75,
    "to_pandas of numbers, sent / raw socket, all kept": 0.75,
    "default read, sent: raw socket / it, processor time": 1 / 1.3,
    "one of five columns, sent: all / part, seconds": 4.0,
    "1 % of the rows by a filter, sent: all / part, seconds": 20.0,
    "default read, same host / sent": 8.0,
    "default read, same host / Flight DoGet": 10.0,
    "every number summed, same host / sent": 4.0,
    "append of a row: bare request / it": 0.02,
    "scan of 1,000 rows: bare request / it": 0.08,
    "count: bare request / it": 0.16,
    "append of a row: bare request / it, processor time": 0.06,
    "scan of 1,000 rows: bare request / it, processor time": 0.06,
    "count: bare request / it, processor time": 0.12,
    "appends a second: 8 writers / 1": 1.0,
    "link of 20 ms: default / 4 connections, 128 MiB": 2.0,
    "link of 20 ms: default / 1 connection": 3.0,
    "link of 20 ms: default / best fixed": 0.95,
    "link of 1 ms: default / best fixed": 0.95,
    "ipc, read, numbers: pyarrow / read_stream": 0.5,
    "ipc, read, numbers and text: pyarrow, validated / read_stream": 1.0,
    "ipc, read, numbers and text, nulls: pyarrow, validated / read_stream": 1.0,
    "ipc, read, string views: pyarrow / read_stream": 1 / 3,
    "ipc, read, dictionary: pyarrow / read_stream": 1 / 3,
    "ipc, read, list of decimals: pyarrow / read_stream": 1 / 3,
    "ipc, open a file and slice it: pyarrow, read_all and slice / open_file and slice": 1 / 3,
    "ipc, write 300 columns: pyarrow / write_stream": 1 / 1.3,
    "read / Flight DoGet": 3.0,
    "read / raw socket": 0.9,
    "read / PyODPS": 1.7,
    "read / PyODPS as it is by default": 1.7,
    "read, 2 splits / 1 split": 1.0,
    "projection, 1 of 10: ideal / measured": 1 / 1.15,
    "projection, 2 of 10: ideal / measured": 1 / 1.15,
    "projection, 5 of 10: ideal / measured": 1 / 1.15,
    "projection, 1 of 10: server CPU, ideal / measured": 1 / 1.15,
    "projection, 2 of 10: server CPU, ideal / measured": 1 / 1.15,
    "projection, 5 of 10: server CPU, ideal / measured": 1 / 1.15,
    "cut to 4,096 / as stored": 0.6,
    "write, disk / write + fsync": 1.0,
    "write, memory / Flight DoPut": 0.9,
    "write, memory: Flight DoPut / it, processor time": 0.5,
    "write of small batches, memory: Flight DoPut / it, processor time": 0.4,
    "embedded sum / Lance": 5.0,
    "embedded sum / pyarrow": 1.0,
    "first batch: Flight / fletching": 0.5,
    "open a session: 100 / 100,000 segments": 0.1,
    "server CPU: raw socket / fletching": 1 / 1.3,
    "blob: verify and strip, GB/s": 2.0,
    "blob: verify and strip / PyODPS": 5.0,
    "blob: upload / MD5 alone": 0.9,
    "blob: upload / MD5 in two processes": 0.9,
    "blob: 10,000 of 10 KB, one call / single calls": 10.0,
    "blob: 1 MB and more, GB/s": 1.0,
    "changes: now / before, scan": 0.98,
    "changes: now / before, read over HTTP": 0.98,
    "changes: now / before, append": 0.98,
    "changes: now / before, session open": 0.95,
    "changes: 0.1 % at random / clean, embedded": 0.6,
    "changes: 0.1 % at random / clean, HTTP": 0.4,
    "changes: 10 % at random / clean, embedded": 0.35,
    "changes: 10 % at random / clean, HTTP": 0.35,
    "changes: 0.1 % in 1 % of batches / clean, embedded": 0.95,
    "changes: 0.1 % in 1 % of batches / clean, HTTP": 0.95,
    "changes: purged / clean, embedded": 0.98,
    "changes: purged / clean, HTTP": 0.98,
    "changes: first batch, clean / 0.1 % in 1 % of batches": 1 / 1.5,
    "changes: first batch, clean / 0.1 % at random": 1 / 1.5,
    "changes: first batch, clean / 10 % at random": 1 / 1.5,
    "changes: 16 MB / more memory of a server, 10 % at random": 1.0,
    "changes: scan of the column / delete of 1 %": 1 / 1.3,
    "changes: 2 % of the table / bytes of a delete of 1 %": 1.0,
    "changes: 40 B / bytes of a deleted row": 1.0,
    "changes: 20 ms / delete of a partition": 1.0,
    "changes: 20 ms / delete of segments by bounds": 1.0,
    "changes: delete + 1.5 appends / update of 1 %": 1.0,
    "changes: copy of all rows / update of 1 %": 10.0,
    "changes: append / upsert of 10,000 into 10 million": 1 / 5,
    "changes: upsert, one segment / 1,000 commits": 1 / 1.5,
    "changes: upsert, 1 / 10 million rows": 1 / 1.5,
    "changes: upsert, 10 / 100 million rows": 1 / 1.5,
    "changes: a fifth of an upsert / its time under the lock": 1.0,
    "changes: single rows, append / upsert": 0.5,
    "changes: single rows, append / upsert, half deleted": 0.5,
    "changes: 1.5 scans of the key + append / merge": 1.0,
    "changes: merge / merge on the key": 1.0,
    "changes: feed, 100,000 / 10 million rows": 1 / 1.2,
    "changes: feed, ten / ten times as many rows": 1 / 1.2,
    "changes: feed, as it was / compacted": 1 / 1.1,
    "changes: session open, current / 10,000 versions ago": 1 / 1.2,
    "changes: 10 ms / a page of 10,000 versions": 1.0,
    "changes: 2 clears / restore of 10,000 segments": 1.0,
    "changes: columns, 100,000 / 10 million rows": 1 / 1.2,
    "changes: scan, renamed / clean": 0.98,
    "changes: compaction, plain / 5 % of batches dirty": 1 / 1.2,
    "changes: ingest, plain / with a bigint key": 1 / 1.15,
    "changes: ingest, plain / with a text key": 1 / 1.4,
    "changes: 16 B / key run of a row, bigint": 1.0,
    "changes: 16 B / key run of a row, text": 1.0,
    "changes: update, 1 / 16 writers": 0.5,
    "changes: upsert, 1 / 16 writers": 0.5,
    "changes: retention, ten of 10,000 / 100,000 segments": 1 / 1.5,
    "changes: 1 s / longest transaction of retention": 1.0,
    "remote: direct / through the server": 1.5,
    "remote: through the server / direct, server CPU": 50.0,
    "remote: through the server, 3 of 10 columns / all": 0.5,
    "remote: cached / local": 0.9,
    "remote: cached / local, 3 of 10 columns": 0.9,
    "remote: requests allowed / made, through the server": 1.0,
    "remote: requests allowed / made, through the server, 3 of 10 columns": 1.0,
    "remote: requests allowed / made, direct": 1.0,
    "remote: requests allowed / made, direct, 3 of 10 columns": 1.0,
    "several: three servers / one, read": 1.0,
    "several: three servers / one, append": 1.0,
    "catalog: SQLite: 50 ms / first plan after one commit": 1.0,
    "catalog: PostgreSQL: 50 ms / first plan after one commit": 1.0,
    "catalog: SQLite: 200 ms / list of all partitions": 1.0,
    "catalog: PostgreSQL: 200 ms / list of all partitions": 1.0,
    "tunnel: encode records / PyODPS reads them": 1.0,
    "tunnel: decode records / PyODPS writes them": 1.0,
    "tunnel: read Arrow / records": 2.0,
    "tunnel: write Arrow / records": 2.0,
    **{
        f"{engine}, {shape}: fletching / Parquet": 1.0
        for engine in ("Polars", "DuckDB", "Dask", "Ray", "Spark")
        for shape in ("numeric", "strings")
    },
    **{
        f"{engine}, {shape}: fletching / Lance": 1.0
        for engine in ("Polars", "DuckDB", "Dask", "Ray")
        for shape in ("numeric", "strings")
    },
    **{
        f"{engine}, {shape}: 2 workers / 1": 1.0
        for engine in ("Dask", "Ray", "Spark")
        for shape in ("numeric", "strings")
    },
    **{
        f"training, {case}: fletching / {rival}": least
        for case in ("0 workers", "2 workers", "cold, 0 workers")
        for rival, least in (("files", 1.5), ("WebDataset", 1.0))
    },
    # Both spend their time in the decoder.
    **{
        f"training, decoded, {workers} workers: fletching / {rival}": 0.9
        for workers in (0, 2)
        for rival in ("files", "WebDataset")
    },
}

TRAINING_CASES = (
    "0 workers",
    "2 workers",
    "cold, 0 workers",
    "decoded, 0 workers",
    "decoded, 2 workers",
)

CHECKED = (
    "default read, sent / raw socket",
    "default read, sent / Flight DoGet",
    "default read, sent / PyODPS",
    "default read, sent / PyODPS as it is by default",
    "default read, sent: raw socket / it, processor time",
    # Not beside the socket that keeps nothing: what new memory costs is the system's affair.
    "to_table, sent / raw socket, all kept",
    "to_pandas of numbers, sent / raw socket, all kept",
    "default read, same host / sent",
    "every number summed, same host / sent",
    "one of five columns, sent: all / part, seconds",
    "append of a row: bare request / it",
    "scan of 1,000 rows: bare request / it",
    "count: bare request / it",
    "append of a row: bare request / it, processor time",
    "scan of 1,000 rows: bare request / it, processor time",
    "count: bare request / it, processor time",
    "appends a second: 8 writers / 1",
    "1 % of the rows by a filter, sent: all / part, seconds",
    "ipc, read, numbers: pyarrow / read_stream",
    "ipc, read, numbers and text: pyarrow, validated / read_stream",
    "ipc, read, numbers and text, nulls: pyarrow, validated / read_stream",
    "ipc, read, string views: pyarrow / read_stream",
    "ipc, read, dictionary: pyarrow / read_stream",
    "ipc, read, list of decimals: pyarrow / read_stream",
    "ipc, open a file and slice it: pyarrow, read_all and slice / open_file and slice",
    "ipc, write 300 columns: pyarrow / write_stream",
    "read / Flight DoGet",
    "read / raw socket",
    "read / PyODPS",
    "read / PyODPS as it is by default",
    "projection, 2 of 10: ideal / measured",
    "projection, 5 of 10: ideal / measured",
    "write, disk / write + fsync",
    "write, memory / Flight DoPut",
    "write, memory: Flight DoPut / it, processor time",
    "write of small batches, memory: Flight DoPut / it, processor time",
    # Not beside the best fixed number: the default is one of those.
    "link of 20 ms: default / 4 connections, 128 MiB",
    "link of 20 ms: default / 1 connection",
    "tunnel: encode records / PyODPS reads them",
    "tunnel: decode records / PyODPS writes them",
    "tunnel: read Arrow / records",
    "tunnel: write Arrow / records",
    "remote: requests allowed / made, through the server",
    "remote: requests allowed / made, through the server, 3 of 10 columns",
    "remote: requests allowed / made, direct",
    "remote: requests allowed / made, direct, 3 of 10 columns",
    # Not direct beside through the server: the bucket shares the processors with what reads from it.
    "remote: through the server, 3 of 10 columns / all",
    "remote: cached / local",
    "remote: cached / local, 3 of 10 columns",
)
"""What continuous integration looks at; copies of payload are counted by a test instead."""


def compute(results: Sequence[Result]) -> dict[str, float]:
    """Every ratio of `TARGETS` that the results allow; larger is better in all of them."""
    found: dict[str, float] = {}

    def pick(question: str, case: str, name: str) -> Result | None:
        for result in results:
            if (result.question, result.name) == (question, name) and result.case.startswith(case):
                return result
        return None

    def ratio(label: str, ours: Result | None, theirs: Result | None) -> None:
        if ours is not None and theirs is not None:
            found[label] = ours.bytes_per_second / theirs.bytes_per_second

    _by_default(ratio, pick)
    bare = pick("small calls", "", "bare request")
    for name in ("append of a row", "scan of 1,000 rows", "count"):
        call = pick("small calls", "", name)
        _processor_time(found, call, bare, f"{name}: bare request / it")
    everything = pick("defaults", "", "to_batches, sent")
    raw = pick("defaults", "", "raw socket")
    _processor_time(found, everything, raw, "default read, sent: raw socket / it")
    for name, label in (
        ("one column", "one of five columns"),
        ("1 % of the rows", "1 % of the rows by a filter"),
    ):
        part = pick("defaults", "", f"{name}, sent")
        if everything is not None and part is not None:
            found[f"{label}, sent: all / part, seconds"] = everything.median / part.median
    case = "numeric, 65,536"
    ours = pick("read", case, "fletching")
    ratio("read / Flight DoGet", ours, pick("read", case, "Flight DoGet"))
    ratio("read / raw socket", ours, pick("read", case, "raw socket"))
    ratio("read / PyODPS", ours, pick("read", case, "PyODPS"))
    # Its users get batches of 4,096 rows unless they ask for others.
    by_default = pick("read", case, "PyODPS, cut to 4,096")
    ratio("read / PyODPS as it is by default", ours, by_default)
    ratio("read, 2 splits / 1 split", pick("read", case, "fletching, 2 splits"), ours)
    ratio("cut to 4,096 / as stored", pick("read", case, "fletching, cut to 4,096"), ours)
    _server_cpu(found, ours, pick("read", case, "raw socket"), "server CPU: raw socket / fletching")

    whole = pick("projection", case, "10 of 10")
    for chosen in (1, 2, 5):
        part = pick("projection", case, f"{chosen} of 10")
        if whole is None or part is None:
            continue
        name = f"projection, {chosen} of 10"
        found[f"{name}: ideal / measured"] = whole.median * chosen / 10 / part.median
        if whole.server_cpu_seconds and part.server_cpu_seconds:
            ideal = whole.server_cpu_seconds * chosen / 10
            found[f"{name}: server CPU, ideal / measured"] = ideal / part.server_cpu_seconds

    for place, rival in (("disk", "write + fsync"), ("memory", "Flight DoPut")):
        case = f"numeric, {place}"
        label = f"write, {place} / {rival}"
        ratio(label, pick("write", case, "fletching"), pick("write", case, rival))
    for case, label in (("numeric, memory", "write"), ("batches of", "write of small batches")):
        _processor_time(
            found,
            pick("write", case, "fletching"),
            pick("write", case, "Flight DoPut"),
            f"{label}, memory: Flight DoPut / it",
        )

    sums = [r for r in results if r.question == "embedded: sum"]
    if sums:
        last = {r.name: r for r in sums}.values()  # of the larger table

        def fastest(name: str) -> Result | None:
            """Batch by batch or as a table, whichever suits a library."""
            own = [r for r in last if r.name.startswith(name)]
            return max(own, key=lambda r: r.bytes_per_second, default=None)

        ratio("embedded sum / Lance", fastest("fletching"), fastest("Lance"))
        ratio("embedded sum / pyarrow", fastest("fletching"), fastest("pyarrow"))

    first = pick("first batch", "", "fletching, new session")
    rival_first = pick("first batch", "", "Flight DoGet")
    if first is not None and rival_first is not None:
        theirs, mine = map(statistics.median, (rival_first.first_seconds, first.first_seconds))
        found["first batch: Flight / fletching"] = theirs / mine
    _messages(found, results)
    _links(found, results)
    _blobs(found, results)
    _changes(found, results)
    for label, question, name, rival in (
        ("encode records / PyODPS reads them", "codec", "encode", "PyODPS reads"),
        ("decode records / PyODPS writes them", "codec", "decode", "PyODPS writes"),
        ("read Arrow / records", "read", "PyODPS, Arrow", "PyODPS, records"),
        ("write Arrow / records", "write", "PyODPS, Arrow", "PyODPS, records"),
    ):
        asked = f"tunnel: {question}"
        ratio(f"tunnel: {label}", pick(asked, "", name), pick(asked, "", rival))
    _in_engines(ratio, pick)
    _remote(found, ratio, pick)
    few = pick("open a session", "100 segments", "open a session")
    many = pick("open a session", "100,000 segments", "open a session")
    if few is not None and many is not None:
        found["open a session: 100 / 100,000 segments"] = few.median / many.median
    return found


def _remote(
    found: dict[str, float],
    ratio: Callable[[str, Result | None, Result | None], None],
    pick: Callable[[str, str, str], Result | None],
) -> None:
    """Objects in a bucket, and a catalog of a million segments."""

    def read(name: str) -> Result | None:
        return pick("remote", "", name)

    part = ", 3 of 10 columns"
    through, direct = read("bucket, through the server"), read("bucket, direct")
    ratio("remote: direct / through the server", direct, through)
    ratio(
        "remote: through the server, 3 of 10 columns / all",
        read(f"bucket, through the server{part}"),
        through,
    )
    for work in ("read", "append"):
        one, three = (
            pick("several", "", f"{each}: {work}") for each in ("one server", "three servers")
        )
        ratio(f"several: three servers / one, {work}", three, one)
    for way in ("through the server", "direct"):
        for columns in ("", part):
            asked = pick("remote: requests", "", f"bucket, {way}{columns}")
            if asked is not None and asked.rows:
                allowed = asked.bytes / BYTES_PER_REQUEST + SEGMENTS
                found[f"remote: requests allowed / made, {way}{columns}"] = allowed / asked.rows
    ratio("remote: cached / local", read("cached"), read("local"))
    ratio(f"remote: cached / local{part}", read(f"cached{part}"), read(f"local{part}"))
    rest = read(AT_REST)
    if through is not None and direct is not None and rest is not None:
        taken = _for_reads(direct, rest)
        found["remote: through the server / direct, server CPU"] = _for_reads(through, rest) / taken
    for database in ("SQLite", "PostgreSQL"):
        for name, label, promised in (
            ("first plan after one commit", "first plan after one commit", 0.05),
            ("list all partitions", "list of all partitions", 0.2),
        ):
            result = pick("catalog", "1,000,000 segments", f"{database}: {name}")
            if result is not None:
                key = f"catalog: {database}: {round(promised * 1000)} ms / {label}"
                found[key] = promised / result.median


def _for_reads(read: Result, rest: Result) -> float:
    """CPU seconds of a server for what it was asked: without what it uses in as much time when nobody asks."""
    rate = (rest.server_cpu_seconds or 0.0) / sum(rest.seconds)
    used = (read.server_cpu_seconds or 0.0) - rate * sum(read.seconds)
    # Where others' load makes the rest look dearer than the read, it was not below a tenth of a millisecond.
    return max(used, 1e-4 * len(read.seconds))


def _in_engines(
    ratio: Callable[[str, Result | None, Result | None], None],
    pick: Callable[[str, str, str], Result | None],
) -> None:
    """Whole tables, and samples: all contenders of a case have as many."""
    workers = {
        "Dask": ("fletching, 4 parts", "fletching, 4 parts, 1 worker"),
        "Ray": ("fletching, 4 parts", "fletching, 4 parts, 1 worker"),
        "Spark": ("fletching, 2 parts", "fletching, 1 part"),
    }
    for engine in ("Polars", "DuckDB", "Dask", "Ray", "Spark"):
        for shape in ("numeric", "strings"):
            case = f"{engine}, {shape}"
            ours = pick("engines", case, "fletching")
            for rival in ("Parquet", "Lance"):
                ratio(f"{case}: fletching / {rival}", ours, pick("engines", case, rival))
            two, one = (pick("engines", case, name) for name in workers.get(engine, ("", "")))
            ratio(f"{case}: 2 workers / 1", two, one)
    for case in TRAINING_CASES:
        ours = pick("training", case, "fletching, a folder")
        for rival in ("files", "WebDataset"):
            ratio(f"training, {case}: fletching / {rival}", ours, pick("training", case, rival))


def _by_default(
    ratio: Callable[[str, Result | None, Result | None], None],
    pick: Callable[[str, str, str], Result | None],
) -> None:
    """The README's calls; of small ones a rate is calls a second."""

    def read(name: str) -> Result | None:
        return pick("defaults", "", name)

    sent, near = read("to_batches, sent"), read("to_batches, same host")
    raw, flight = read("raw socket"), read("Flight DoGet")
    ratio("default read, sent / raw socket", sent, raw)
    ratio("default read, sent / Flight DoGet", sent, flight)
    ratio("default read, sent / PyODPS", sent, read("PyODPS"))
    ratio("default read, sent / PyODPS as it is by default", sent, read("PyODPS, cut to 4,096"))
    ratio("to_table, sent / raw socket", read("to_table, sent"), raw)
    ratio("to_pandas of numbers, sent / raw socket", read("to_pandas of numbers, sent"), raw)
    for call in ("to_table, sent", "to_pandas of numbers, sent"):
        ratio(f"{call} / raw socket, all kept", read(call), read("raw socket, all kept"))
    ratio("default read, same host / sent", near, sent)
    ratio("default read, same host / Flight DoGet", near, flight)
    ratio("every number summed, same host / sent", read("sum, same host"), read("sum, sent"))
    bare = pick("small calls", "", "bare request")
    for name in ("append of a row", "scan of 1,000 rows", "count"):
        ratio(f"{name}: bare request / it", pick("small calls", "", name), bare)
    ratio(
        "appends a second: 8 writers / 1",
        pick("small calls", "", "append of a row, 8 writers"),
        pick("small calls", "", "append of a row"),
    )


def _messages(found: dict[str, float], results: Sequence[Result]) -> None:
    """Processor time: it is one thread's work, and others on the machine disturb that less."""
    seconds = {
        (result.case, result.name): result.client_cpu_seconds
        for result in results
        if result.question == "ipc" and result.client_cpu_seconds
    }
    for label in TARGETS:
        if label.startswith("ipc, "):
            case, _, contenders = label.removeprefix("ipc, ").partition(": ")
            theirs, _, ours = contenders.partition(" / ")
            if {(case, theirs), (case, ours)} <= seconds.keys():
                found[label] = seconds[case, theirs] / seconds[case, ours]


def _links(found: dict[str, float], results: Sequence[Result]) -> None:
    for milliseconds in (1, 20):
        rates = {
            result.name: result.bytes_per_second
            for result in results
            if (result.question, result.case) == ("links", f"10 Gbit/s, {milliseconds} ms")
        }
        label = f"link of {milliseconds} ms: default"
        default = rates.pop("default", None)
        if default is not None:
            found[f"{label} / best fixed"] = default / max(rates.values())
            for name, rate in rates.items():
                if f"{label} / {name}" in TARGETS:
                    found[f"{label} / {name}"] = default / rate


def _blobs(found: dict[str, float], results: Sequence[Result]) -> None:
    rates = {(r.question, r.case, r.name): r.bytes_per_second for r in results}
    for (question, case, name), rate in rates.items():
        if (question, name) == ("blob: CRC32C blocks", "fletching, verify and strip"):
            found["blob: verify and strip, GB/s"] = rate / 1e9
            rival = rates.get((question, case, "PyODPS, verify and strip"))
            if rival:
                found["blob: verify and strip / PyODPS"] = rate / rival
        if (question, name) == ("blob: upload", "fletching, put_blob"):
            for floor in ("MD5 alone", "MD5 in two processes"):
                found[f"blob: upload / {floor}"] = rate / rates[question, case, floor]
        if (question, name) == ("blob: read", "fletching, one call"):
            if case.endswith(f"{1 << 20:,} bytes"):
                found["blob: 1 MB and more, GB/s"] = rate / 1e9
            else:
                single = rates[question, case, "fletching, single calls"]
                found["blob: 10,000 of 10 KB, one call / single calls"] = rate / single


def _changes(found: dict[str, float], results: Sequence[Result]) -> None:
    """Seconds against seconds: what is done is the same."""
    asked: dict[str, dict[str, list[Result]]] = {}
    for each in results:
        if each.question.startswith("changes: "):
            kinds = asked.setdefault(each.question.removeprefix("changes: "), {})
            kinds.setdefault(each.name, []).append(each)
    if not asked:
        return

    def all_of(question: str, name: str) -> list[Result]:
        return asked[question][name]

    def one(question: str, name: str) -> float:
        return all_of(question, name)[0].median

    def size(question: str, name: str) -> int:
        return all_of(question, name)[0].bytes

    for question, label in (
        ("scan", "scan"),
        ("read", "read over HTTP"),
        ("append", "append"),
        ("session", "session open"),
    ):
        if question in asked:
            found[f"changes: now / before, {label}"] = one(question, "before") / one(
                question, "now"
            )
    for question, label in (("sum, embedded", "embedded"), ("read, HTTP", "HTTP")):
        for name in ("0.1 % at random", "10 % at random", "0.1 % in 1 % of batches", "purged"):
            ratio = one(question, "clean") / one(question, name)
            found[f"changes: {name} / clean, {label}"] = ratio
    for name in ("0.1 % in 1 % of batches", "0.1 % at random", "10 % at random"):
        first, other = (
            statistics.median(all_of("read, HTTP", each)[0].first_seconds)
            for each in ("clean", name)
        )
        found[f"changes: first batch, clean / {name}"] = first / other
    more = size("memory", "10 % at random") - size("memory", "clean")
    found["changes: 16 MB / more memory of a server, 10 % at random"] = (16 << 20) / max(more, 1)
    _verbs(found, one, size)
    _keys(found, all_of, one, size)
    found["changes: session open, current / 10,000 versions ago"] = one(
        "old versions", "current"
    ) / one("old versions", "old")
    found["changes: 10 ms / a page of 10,000 versions"] = 0.01 / one(
        "old versions", "a page of versions"
    )
    found["changes: 2 clears / restore of 10,000 segments"] = (
        2 * one("restore", "clear") / one("restore", "restore")
    )
    found["changes: compaction, plain / 5 % of batches dirty"] = one("compaction", "plain") / one(
        "compaction", "5 % of the batches dirty"
    )
    few, many = (each.median for each in all_of("retention", "all"))
    found["changes: retention, ten of 10,000 / 100,000 segments"] = 10 * few / many
    longest = max(each.median for each in all_of("retention", "longest transaction"))
    found["changes: 1 s / longest transaction of retention"] = 1 / longest


def _verbs(
    found: dict[str, float],
    one: Callable[[str, str], float],
    size: Callable[[str, str], int],
) -> None:
    scan, delete, update, append = (
        one("delete", name)
        for name in (
            "scan of the predicate's column",
            "delete of 1 %",
            "update of 1 %",
            "append of 1 %",
        )
    )
    found["changes: scan of the column / delete of 1 %"] = scan / delete
    found["changes: delete + 1.5 appends / update of 1 %"] = (delete + 1.5 * append) / update
    found["changes: copy of all rows / update of 1 %"] = one("copy on write", "all rows") / update
    written, rows = (size("bytes of a delete", name) for name in ("written", "rows"))
    # A hundredth of the rows was deleted, each of them 40 bytes in the table.
    found["changes: 2 % of the table / bytes of a delete of 1 %"] = rows * 100 * 40 / 50 / written
    found["changes: 40 B / bytes of a deleted row"] = 40 * rows / written
    for name, label in (("a partition", "a partition"), ("by bounds", "segments by bounds")):
        found[f"changes: 20 ms / delete of {label}"] = 0.02 / one("delete without looking", name)
    for question in ("feed", "columns"):
        ratio = one(question, "small") / one(question, "large")
        found[f"changes: {question}, 100,000 / 10 million rows"] = ratio
    ten, compacted = (
        one("feed", name) for name in ("ten times as many", "ten times as many, compacted")
    )
    found["changes: feed, ten / ten times as many rows"] = 10 * one("feed", "large") / ten
    found["changes: feed, as it was / compacted"] = ten / compacted
    found["changes: scan, renamed / clean"] = one("renamed", "clean") / one("renamed", "renamed")


def _keys(
    found: dict[str, float],
    all_of: Callable[[str, str], list[Result]],
    one: Callable[[str, str], float],
    size: Callable[[str, str], int],
) -> None:
    appends, upserts = (all_of("upsert", name) for name in ("append", "upsert"))
    found["changes: append / upsert of 10,000 into 10 million"] = (
        appends[1].median / upserts[1].median
    )
    found["changes: upsert, one segment / 1,000 commits"] = upserts[1].median / one(
        "upsert", "upsert, by 1,000 commits"
    )
    found["changes: upsert, 1 / 10 million rows"] = upserts[0].median / upserts[1].median
    if len(upserts) > 2:
        found["changes: upsert, 10 / 100 million rows"] = upserts[1].median / upserts[2].median
    shares = [
        whole.median / locked.median
        for whole, locked in zip(
            all_of("lock", "upsert"), all_of("lock", "under the lock"), strict=True
        )
    ]
    found["changes: a fifth of an upsert / its time under the lock"] = min(shares) / 5
    for name in ("upsert", "upsert, half deleted"):
        ratio = one("single rows", "append") / one("single rows", name)
        found[f"changes: single rows, append / {name}"] = ratio
    found["changes: 1.5 scans of the key + append / merge"] = (
        1.5 * one("merge", "scan of the key") + one("merge", "append")
    ) / one("merge", "merge")
    found["changes: merge / merge on the key"] = one("merge", "merge") / one(
        "merge", "merge on the key"
    )
    for kind in ("bigint", "text"):
        question = f"ingest, {kind}"
        found[f"changes: ingest, plain / with a {kind} key"] = one(question, "plain") / one(
            question, "keyed"
        )
        found[f"changes: 16 B / key run of a row, {kind}"] = 16_000 / size(
            f"key runs, {kind}", "keyed"
        )
    for verb in ("update", "upsert"):
        question = f"together, {verb}"
        found[f"changes: {verb}, 1 / 16 writers"] = one(question, "1 writer") / one(
            question, "16 writers"
        )


def _server_cpu(
    found: dict[str, float], ours: Result | None, floor: Result | None, label: str
) -> None:
    if ours is None or floor is None or not ours.server_cpu_seconds or not floor.server_cpu_seconds:
        return
    mine = ours.server_cpu_seconds / ours.bytes
    found[label] = floor.server_cpu_seconds / floor.bytes / mine


def _processor_time(
    found: dict[str, float], ours: Result | None, theirs: Result | None, label: str
) -> None:
    """Of both sides, for each byte; of small calls, whose bytes are one, for each call."""
    if ours is None or theirs is None:
        return
    mine, others = (
        (each.client_cpu_seconds + (each.server_cpu_seconds or 0.0)) / each.bytes
        for each in (ours, theirs)
    )
    if mine and others:
        found[f"{label}{PROCESSOR_TIME}"] = others / mine


def load_records() -> dict[str, dict[str, Any]]:
    """What was recorded, by the kind of processor: ``environment``, ``runs`` and ``medians``."""
    if not RECORD.exists():
        return {}
    records: dict[str, dict[str, Any]] = json.loads(RECORD.read_text())
    return records


def expected(processor: str) -> dict[str, float]:
    """The medians that were recorded on this kind of processor; on another, the least of all kinds."""
    records = {kind: each["medians"] for kind, each in load_records().items()}
    if processor in records:
        return dict(records[processor])
    least: dict[str, float] = {}
    for medians in records.values():
        for name, value in medians.items():
            least[name] = min(value, least.get(name, value))
    return least


def fallen(ratios: dict[str, float], record: dict[str, float], *, some: bool = False) -> list[str]:
    """A sentence for each checked ratio that fell too far, or was not measured.

    Args:
        ratios: what was measured.
        record: what was measured when it was recorded.
        some: whether only some questions were asked, so that ratios may be missing.
    """
    complaints: list[str] = []
    for name in CHECKED:
        if name not in record or (some and name not in ratios):
            continue
        by_processor = name.endswith(PROCESSOR_TIME)
        fall = ALLOWED_FALL_OF_PROCESSOR_TIME if by_processor else ALLOWED_FALL
        least = record[name] * (1 - fall)
        if name.startswith(COUNTS):
            least = TARGETS[name]
        actual = ratios.get(name)
        if actual is None:
            complaints.append(f"{name}: not measured")
        elif actual < least:
            complaints.append(
                f"{name}: {actual:.2f}, below {least:.2f} (recorded {record[name]:.2f})"
            )
    return complaints
