"""What ends a command, seen from outside: exit codes, stdout that takes nothing, missing extras."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import fletching
from fletching.cli.output import ExitCode

WITHOUT = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
{program}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    location = tmp_path_factory.mktemp("main") / "data"
    with fletching.connect(location, create=True) as client:
        client.create_table("t", pa.schema([("id", pa.int64())]))
        client.table("t").append({"id": [1, 2, 3]})
    return location


def run(*words: object, **options: Any) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FLETCHING_")}
    return subprocess.run(
        [sys.executable, "-m", "fletching", *map(str, words)],
        text=True,
        check=False,
        **{"env": environment, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, **options},
    )


@pytest.mark.parametrize(
    "words",
    [
        ("get", "t", "-", "--format", "csv"),
        ("get", "t", "-", "--format", "parquet"),
        ("head", "t"),
        ("ls", "--json"),
    ],
)
def test_what_stdout_does_not_take_is_a_failure(folder: Path, words: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        done = run(*words, "--at", folder, stdout=full)
    assert done.returncode == ExitCode.FAILED
    assert done.stderr.startswith("error: cannot write standard output: No space left")
    assert len(done.stderr.splitlines()) == 1


def test_text_that_the_encoding_of_stdout_does_not_have_is_a_failure(folder: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = run("sql", "select 'caf\u00e9'", "--at", folder, stdout=subprocess.PIPE, env=environment)
    assert done.returncode == ExitCode.FAILED
    assert done.stderr.startswith("error: '\\xe9' cannot be written as ascii; PYTHONIOENCODING")
    assert len(done.stderr.splitlines()) == 1


def test_a_name_that_is_no_text_is_spelt_out(tmp_path: Path) -> None:
    file = tmp_path / os.fsdecode(b"a\xff.arrow")
    file.write_bytes(b"ARROW1")
    done = run("inspect", file, stdout=subprocess.PIPE)
    assert done.returncode == ExitCode.DIFFERENT
    assert "a\\udcff.arrow: 6 bytes" in done.stdout


def test_a_key_that_does_not_belong_to_the_catalog_is_a_wrong_setting(folder: Path) -> None:
    done = run("verify", folder, env=dict(os.environ) | {"FLETCHING_SERVER_KEY": "ab" * 32})
    assert done.returncode == ExitCode.USAGE
    assert done.stderr.startswith("error: the server key is not the one")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("words", [("get", "t", "-"), ("head", "t")])
def test_a_reader_that_went_away_is_no_success(folder: Path, words: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = run(*words, "--at", folder, stdout=writing)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (ExitCode.PIPE_CLOSED, "")


def test_a_closed_stdout_is_a_failure(folder: Path) -> None:
    command = f"exec {sys.executable} -m fletching head t --at {folder} >&-"
    done = subprocess.run(
        ["/bin/sh", "-c", command], text=True, check=False, stderr=subprocess.PIPE
    )
    assert done.returncode == ExitCode.FAILED
    assert done.stderr == "error: cannot write standard output: it is closed\n"


@pytest.mark.parametrize(
    ("missing", "program", "message"),
    [
        (["typer"], "from fletching.cli.main import main; main()", "fletching[cli]"),
        (["uvicorn"], "import fletching; fletching.serve('x')", "fletching[server]"),
        (["sqlalchemy"], "import fletching; fletching.serve('x')", "fletching[server]"),
        (
            ["uvicorn"],
            "sys.argv = ['fletching', 'serve', 'x']; from fletching.cli.main import main; main()",
            "fletching[server]",
        ),
    ],
)
def test_a_missing_extra_is_named(
    tmp_path: Path, missing: list[str], program: str, message: str
) -> None:
    text = WITHOUT.format(missing=missing, program=program)
    done = subprocess.run(
        [sys.executable, "-c", text], text=True, check=False, capture_output=True, cwd=tmp_path
    )
    assert done.returncode != 0
    assert message in done.stderr.splitlines()[-1]
    if "main" in program:
        assert done.returncode == ExitCode.USAGE
        assert len(done.stderr.splitlines()) == 1
    else:
        assert "MissingExtraError" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "late"), [(["put", "t", "-", "--format", "csv", "--create"], False), (["ls"], True)]
)
def test_a_failed_command_leaves_no_thread_of_pyarrow_to_an_interpreter_that_ends(
    tmp_path: Path, words: list[str], late: bool
) -> None:
    """Bytes that still come from a pipe would abort the process while it ends."""
    program = (
        "import atexit, sys; atexit.register(print, 'ends'); from fletching.cli.main import run;"
        f"sys.argv = ['fletching', *{words!r}, '--at', {str(tmp_path / 'none')!r}]; run()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(b"id,name\n" + b"1,\xc3\xfb\n" * 400_000)
            while not late and process.poll() is None:
                process.stdin.write(b"2,x\n" * 1000)
                process.stdin.flush()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        assert process.wait() == 2
        assert (b"ends" in process.stdout.read()) == late
        assert process.stderr.read().startswith(b"error: ")


def test_an_interrupted_command_leaves_nothing_to_take_apart() -> None:
    """The interpreter's own end takes longer than leaving everything that the command had opened."""
    program = """
import atexit, sys
from fletching.cli import main
atexit.register(print, "ends")
def interrupted():
    print("so far")
    try:
        raise KeyboardInterrupt
    finally:
        sys.stderr.write("closed")
main._run = interrupted
main.run()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], text=True, check=False, capture_output=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "so far\n", "closed")


def test_an_interrupted_command_does_not_wait_for_a_reader_that_has_stopped() -> None:
    """What stdout does not take is dropped: flushing it would wait for the same reader again."""
    program = """
import sys
from fletching.cli import main
def interrupted():
    sys.stdout = open(1, "w", buffering=1 << 20)
    print("x" * 500_000)
    raise KeyboardInterrupt
main._run = interrupted
main.run()
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.wait(600) == 130


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_command_that_is_told_to_end_takes_back_what_is_unfinished(
    tmp_path: Path, number: signal.Signals
) -> None:
    # Tests that run under nohup inherit that SIGHUP is ignored, and so would this program.
    program = f"""
import os
import signal
signal.signal({int(number)}, signal.SIG_DFL)
from fletching.cli import main
from fletching.cli.output_files import writing
def half_done():
    with writing("out.csv", replace=False) as file:
        file.write(b"half")
        os.kill(os.getpid(), {int(number)})
    return 0
main._run = half_done
main.run()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, text=True, check=False, capture_output=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", "")
    assert list(tmp_path.iterdir()) == []
