"""``make test-pythons``: a short form of the tests on every Python that is supported and found here.

Interpreters are looked for on the path and among those of pyenv. Each gets an environment of its own,
which is kept for the next time. What is not found is said, and is no failure.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / ".interop" / "pythons"
VERSIONS = ("3.11", "3.12", "3.13", "3.14")
# Every room once, the languages' corners (types, pickles, threads, asyncio) and none that takes long.
TESTS = (
    *("tests/wire", "tests/lz4stream/test_streams.py", "tests/protocol/codec"),
    *("tests/ipc/test_decoder.py", "tests/ipc/test_file.py", "tests/ipc/test_message.py"),
    *("tests/test_exports.py", "tests/test_lazy_names.py", "tests/test_errors.py"),
    *("tests/aio", "tests/test_settings.py", "tests/test_typing.py"),
    *("tests/engine/test_engine.py", "tests/engine/query/test_statement_runner.py"),
    *("tests/client/test_client.py", "tests/client/test_table.py", "tests/client/transports"),
    *("tests/server/test_http_rules.py", "tests/server/console", "tests/cli/test_commands.py"),
)


def candidates(version: str) -> Iterator[str]:
    result = shutil.which(f"python{version}")
    if result is not None:
        yield result
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    for path in sorted(pyenv.glob(f"versions/{version}.*/bin/python"), reverse=True):
        yield str(path)


def interpreter(version: str) -> str | None:
    """One that runs and is what it is called: a name of pyenv's may stand for none."""
    program = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
    for path in candidates(version):
        done = subprocess.run([path, "-c", program], capture_output=True, text=True, check=False)
        if done.returncode == 0 and done.stdout.strip() == version:
            return path
    return None


def prepared(version: str, python: str) -> Path:
    place = PLACE / version
    stamp = place / ".installed"
    wanted = "".join((ROOT / name).read_text() for name in ("pyproject.toml", "constraints.txt"))
    if not stamp.exists() or stamp.read_text() != wanted:
        subprocess.run([python, "-m", "venv", "--clear", place], check=True)
        run = place / "bin" / "python"
        pip = [run, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        pip += ["--constraint", "constraints.txt"]
        subprocess.run([*pip, "--upgrade", "pip"], cwd=ROOT, check=True)
        subprocess.run(
            [*pip, "--editable", ".[all]", "--group", "test", "mypy"],
            cwd=ROOT,
            check=True,
        )
        stamp.write_text(wanted)
    return place / "bin" / "python"


def main() -> None:
    failed = []
    tried = 0
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for version in VERSIONS:
        python = interpreter(version)
        if python is None:
            print(f"Python {version}: none is here, so nothing is tried with it", flush=True)
            continue
        tried += 1
        print(f"Python {version}: {python}", flush=True)
        done = subprocess.run(
            [
                *(prepared(version, python), "-m", "pytest", "-n", "2", "-q"),
                *("-p", "no:cacheprovider", "-m", "not engines and not cluster and not browser"),
                *TESTS,
            ],
            cwd=ROOT,
            env=environment,
            check=False,
        )
        if done.returncode:
            failed.append(version)
    if failed:
        sys.exit(f"the tests fail on Python {', '.join(failed)}")
    print(f"the short form of the tests passes on {tried} of {len(VERSIONS)} Pythons")


if __name__ == "__main__":
    main()
