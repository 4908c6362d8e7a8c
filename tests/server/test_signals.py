from __future__ import annotations

import os
import signal
import threading

from fletching.server.signals import stopping_signals


def test_both_signals_stop_and_what_was_there_comes_back() -> None:
    calls: list[int] = []
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with stopping_signals(lambda: calls.append(1)):
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)
    assert len(calls) == 2
    assert before == [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]


def test_other_threads_change_no_handler() -> None:
    seen: list[object] = []

    def run() -> None:
        with stopping_signals(lambda: None):
            seen.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join(600)
    assert seen == [before]
