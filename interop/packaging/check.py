"""``make packaging``: the wheel and the source archive in clean environments, extra by extra.

Each environment gets the wheel with one choice of extras, and runs what that choice promises; the last
ones get the lowest versions that the metadata allows, and the source archive. The README and the tutorial
are followed from top to bottom as a newcomer would: each in a clean environment, with the real pip and
the real command.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BASE = """
import fletching, fletching.ipc, fletching.lz4stream, fletching.client, fletching.wire.blob_frames
try:
    fletching.serve("x")
except fletching.FletchingError as error:
    assert "fletching[server]" in str(error), error
else:
    raise SystemExit("the base installation serves")
"""
SERVER = """
import fletching, pyarrow as pa
with fletching.serve("data", port=0) as server:
    client = fletching.connect(server.url, access_id=server.access_key[0], access_key=server.access_key[1])
    table = client.create_table("t", "id BIGINT, text STRING", partition_by=["pt"])
    table.append({"id": [1, 2], "text": ["a", None], "pt": ["x", "y"]})
    assert table.scan(filter="id > 1").to_table().num_rows == 1
    assert client.table("t").count_rows() == 2
"""
SQL = """
import fletching
with fletching.connect("sql", create=True) as client:
    client.create_table("t", {"id": [1, 2, 3]})
    assert client.sql("select sum(id) s from t").to_table()["s"].to_pylist() == [6]
"""
PLACES = """
import fletching, keyring, psycopg
from fletching.objects.remote_store import RemoteStore
from fletching.errors import SettingsError
store = RemoteStore("memory:///")
with store.create("tables/t/a-1.arrow") as sink:
    sink.write(b"abc")
    sink.commit()
assert bytes(store.open("tables/t/a-1.arrow").read(0, 3)) == b"abc"
try:
    fletching.serve(catalog="postgresql://u@127.0.0.1:1/x?connect_timeout=1", objects="memory:///", server_key="0" * 64)
except SettingsError as error:
    assert "catalog" in str(error), error
else:
    raise SystemExit("a database that is not there is taken")
"""
POLARS = """
import fletching, polars
from fletching.connectors.polars import scan_table
with fletching.connect("frames", create=True) as client:
    table = client.create_table("t", {"id": [1, 2, 3]})
    assert scan_table(table).filter(polars.col("id") > 1).collect()["id"].to_list() == [2, 3]
"""
DUCKDB = """
import fletching, duckdb
from fletching.connectors.duckdb import attach
with fletching.connect("relations", create=True) as client:
    table = client.create_table("t", {"id": [1, 2, 3]})
    connection = duckdb.connect()
    attach(connection, table)
    assert connection.sql("select max(id) from t").fetchall() == [(3,)]
"""
CLI = ["-m", "fletching", "--help"]
# What is installed, by which versions, and what it must be able to do.
CHOICES = [
    ("", "highest", [["-c", BASE]]),
    ("server", "highest", [["-c", SERVER]]),
    ("cli", "highest", [CLI]),
    (
        "server,cli",
        "highest",
        [["-c", SERVER], CLI, ["-m", "fletching", "bench", "--megabytes", "2"]],
    ),
    ("sql", "highest", [["-c", SQL]]),
    ("server,postgres,s3,keyring", "highest", [["-c", PLACES]]),
    ("server,polars", "highest", [["-c", POLARS]]),
    ("server,duckdb", "highest", [["-c", DUCKDB]]),
    ("server,cli", "lowest-direct", [["-c", SERVER], CLI]),
]


def run(*command: object, cwd: Path) -> None:
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))[:200]}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")


def environment(folder: Path) -> Path:
    venv.create(folder, with_pip=True)
    return folder / "bin" / "python"


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="fletching-packaging-") as name:
        work = Path(name)
        tools = environment(work / "tools")
        run(tools, "-m", "pip", "install", "-q", "hatchling", "uv", "twine", cwd=work)
        run(tools, "-m", "hatchling", "build", "-d", work / "dist", cwd=ROOT)
        (wheel,) = (work / "dist").glob("*.whl")
        run(tools, "-m", "hatchling", "build", "-t", "wheel", "-d", work / "again", cwd=ROOT)
        if (work / "again" / wheel.name).read_bytes() != wheel.read_bytes():
            raise SystemExit("two builds of one tree differ: the wheel is not reproducible")
        (source,) = (work / "dist").glob("*.tar.gz")
        run(tools, "-m", "twine", "check", "--strict", wheel, source, cwd=work)
        for number, (extras, resolution, programs) in enumerate(CHOICES):
            place = work / f"environment-{number}"
            python = environment(place)
            wanted = f"{wheel}[{extras}]" if extras else str(wheel)
            run(
                *(tools, "-m", "uv", "pip", "install", "-q", "--python", python),
                *("--resolution", resolution, wanted),
                cwd=work,
            )
            for program in programs:
                run(python, *program, cwd=place)
            print(f"fletching[{extras}], {resolution} versions: ok", flush=True)
        python = environment(work / "from-source")
        run(python, "-m", "pip", "install", "-q", source, cwd=work)
        run(python, "-c", BASE, cwd=work / "from-source")
        print("the source archive: ok", flush=True)
        followed(work, wheel, "README.md", ("sh", "python"))
        followed(work, wheel, "docs/tutorial.md", ("text", "python"))


# What the tutorial says in its sentences, to whoever has come to its end.
AFTERWARDS = """
fletching ls --at ./data
fletching head measurements --at ./data
fletching get measurements week.parquet --at ./data
fletching keys create --grant read:demo --at ./data
test -s week.parquet
"""


def followed(work: Path, wheel: Path, page: str, languages: tuple[str, ...]) -> None:
    """A page's blocks, first what a shell runs and then Python; only the name of the wheel is put in."""
    text = (ROOT / page).read_text()
    blocks = {
        language: "".join(re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
        for language in languages
    }
    shell = re.sub(r"'fletching\[([a-z,]+)\]'", rf"-q '{wheel}[\1]'", blocks[languages[0]])
    place = work / f"newcomer-{Path(page).stem.lower()}"
    python = environment(place)
    (place / "session.py").write_text(blocks["python"])
    script = f"export PATH={python.parent}:$PATH HOME={place} XDG_CONFIG_HOME={place}\n"
    # Where the page opens Python, its blocks are what is typed; else they are a program of their own.
    typed = re.sub(r"^python$", f"python {place}/session.py", shell, flags=re.MULTILINE)
    if typed == shell:
        typed += f"mkdir elsewhere && cd elsewhere && python {place}/session.py\n"
    script += typed + (AFTERWARDS if "tutorial" in page else "")
    run("/bin/sh", "-e", "-c", script, cwd=place)
    print(f"{page} from top to bottom: ok", flush=True)


if __name__ == "__main__":
    main()
