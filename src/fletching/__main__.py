"""``python -m fletching``: the command line."""

from __future__ import annotations

from fletching.cli.main import run

run()
