from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from fletching import lz4stream
from fletching.cli.lz4 import app
from fletching.errors import UsageError

DATA = b"".join(b"line %d of the file\n" % (n % 1000) for n in range(20_000))


def run(*arguments: object, stdin: bytes = b"") -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], input=stdin)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    path = tmp_path / "data.txt"
    path.write_bytes(DATA)
    return path


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--page-bytes", 200, "--size-bytes", 1],
        ["--page-bytes", 5000, "--strategy", "double_buffer", "--size-bytes", 2],
        ["--mode", "fast", "--acceleration", 9],
        ["--mode", "high_compression", "--level", 4],
    ],
    ids=str,
)
def test_a_file_there_and_back(plain: Path, options: list[object]) -> None:
    done = run("compress", plain, *options)
    assert done.exit_code == 0, done.output
    assert "ratio" in done.stderr
    packed = plain.with_name("data.txt.lz4s")
    assert packed.stat().st_size < len(DATA) / 2
    assert packed.stat().st_mode & 0o777 == plain.stat().st_mode & 0o777
    plain.unlink()
    width = (
        ["--size-bytes", options[options.index("--size-bytes") + 1]]
        if "--size-bytes" in options
        else []
    )
    assert run("decompress", packed, *width).exit_code == 0
    assert plain.read_bytes() == DATA
    assert sorted(p.name for p in plain.parent.iterdir()) == ["data.txt", "data.txt.lz4s"]


def test_pipes() -> None:
    packed = run("compress", "-", stdin=DATA)
    assert packed.exit_code == 0
    assert b"".join(lz4stream.decompress(packed.stdout_bytes)) == DATA
    back = run("decompress", "-", "--quiet", stdin=packed.stdout_bytes)
    assert back.stdout_bytes == DATA
    assert back.stderr == ""


def test_from_a_file_to_stdout_and_from_stdin_to_a_file(plain: Path, tmp_path: Path) -> None:
    packed = run("compress", plain, "-o", "-").stdout_bytes
    out = tmp_path / "out"
    assert run("decompress", "-", "-o", out, stdin=packed).exit_code == 0
    assert out.read_bytes() == DATA


def test_a_real_pipe_of_processes(plain: Path) -> None:
    command = [sys.executable, "-m", "typer", "fletching.cli.lz4", "run"]
    packer = subprocess.Popen([*command, "compress", str(plain), "-o", "-"], stdout=subprocess.PIPE)
    done = subprocess.run(
        [*command, "decompress", "-"],
        stdin=packer.stdout,
        capture_output=True,
        timeout=600,
        check=False,
    )
    assert packer.stdout is not None
    packer.stdout.close()
    assert packer.wait(600) == 0
    assert done.returncode == 0
    assert done.stdout == DATA


def test_dictionary_and_end_mark(plain: Path, tmp_path: Path) -> None:
    known = tmp_path / "known"
    known.write_bytes(DATA[:30_000])
    options = ["--dictionary", known, "--end-mark"]
    packed = run("compress", plain, *options, "-o", "-").stdout_bytes
    assert run("decompress", "-", *options, stdin=packed).stdout_bytes == DATA
    assert run("decompress", "-", stdin=packed).exit_code == 3


def info(stream: bytes, *options: object) -> dict[str, Any]:
    done = run("info", "-", "--json", *options, stdin=stream)
    report: dict[str, Any] = json.loads(done.stdout)
    report["exit"] = done.exit_code
    return report


def test_info() -> None:
    stream = b"".join(lz4stream.compress(DATA[:10_500], page_bytes=1000))
    report = info(stream)
    assert report["exit"] == 0
    assert report["blocks"] == 11
    assert report["stream_bytes"] == len(stream)
    assert report["content_bytes"] == 10_500
    assert report["ratio"] == round(10_500 / len(stream), 4)
    assert report["block_content_bytes"] == {"least": 500, "mean": 954.5, "most": 1000}
    stored = report["block_stored_bytes"]
    assert stored["least"] < stored["mean"] < stored["most"]
    text = run("info", "-", stdin=stream).stdout
    for word in ("11", "10,500 bytes", "ratio", "500 to 1,000 bytes, mean 954.5"):
        assert word in text
    assert info(b"")["blocks"] == 0
    marked = stream + bytes(4)
    report = info(marked + b"tail", "--end-mark")
    assert (report["exit"], report["trailing_bytes"]) == (0, 4)
    assert "after the end mark" in run("info", "-", "--end-mark", stdin=marked + b"tail").stdout


def test_info_tells_how_far_a_damaged_stream_is_good() -> None:
    stream = b"".join(lz4stream.compress(DATA[:10_000], page_bytes=1000))
    report = info(stream[:-1])
    assert report["exit"] == 3
    assert report["blocks"] == 9
    assert report["content_bytes"] == 9000


@pytest.mark.parametrize("damage", ["cut", "corrupt", "trailing"])
def test_damage_exits_with_3_and_leaves_no_file(tmp_path: Path, damage: str) -> None:
    stream = b"".join(lz4stream.compress(DATA, end_mark=True))
    broken = {
        "cut": stream[:-20],
        "corrupt": b"\x04\x00\x00\x00\xff\xff\xff\xff" + stream,
        "trailing": stream + b"x",
    }[damage]
    source = tmp_path / "broken.lz4s"
    source.write_bytes(broken)
    done = run("decompress", source, "--end-mark")
    assert done.exit_code == 3
    assert done.stderr.startswith("error: ")
    assert [path.name for path in tmp_path.iterdir()] == ["broken.lz4s"]


def test_limits(tmp_path: Path) -> None:
    stream = b"".join(lz4stream.compress(bytes(100_000)))
    assert run("decompress", "-", "--max-total-bytes", 99_999, stdin=stream).exit_code == 3
    assert run("decompress", "-", "--max-block-bytes", 60_000, stdin=stream).exit_code == 3
    assert run("decompress", "-", "--max-total-bytes", 100_000, stdin=stream).exit_code == 0


def test_what_cannot_be_read_or_written_exits_with_1(tmp_path: Path) -> None:
    for arguments in (["compress", tmp_path / "absent"], ["info", tmp_path / "absent"]):
        done = run(*arguments)
        assert done.exit_code == 1
        assert "No such file" in done.stderr
    done = run("compress", "-", "-o", tmp_path / "no" / "folder", stdin=b"x")
    assert done.exit_code == 1


def test_an_output_that_exists_is_kept_unless_forced(plain: Path) -> None:
    packed = plain.with_name("data.txt.lz4s")
    packed.write_bytes(b"precious")
    done = run("compress", plain)
    assert isinstance(done.exception, UsageError)  # the front turns it into exit code 2
    assert packed.read_bytes() == b"precious"
    assert run("compress", plain, "--force").exit_code == 0
    assert b"".join(lz4stream.decompress(packed.read_bytes())) == DATA


def test_usage() -> None:
    assert isinstance(run("decompress", "no-suffix").exception, UsageError)
    for arguments in (
        ["compress"],
        ["compress", "-", "--mode", "x"],
        ["info", "-", "--size-bytes", "3"],
    ):
        assert run(*arguments).exit_code == 2
    assert "compress" in run("--help").stdout
