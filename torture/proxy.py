"""A network that fails: between client and server it drops, delays, truncates, resets and repeats.

One plan is drawn per request: most pass, some are cut or held at a random byte of the request or
of the reply, and some are delivered a second time, on a connection of their own, at once or later.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
import socket
import struct
import sys

from torture.life import die_with_parent

CHUNK = 16 * 1024
REPEAT_LIMIT = 1 << 20  # bytes of a request that are kept for a second delivery
SPAN = 200_000  # faults strike within so many bytes


@dataclasses.dataclass
class Plan:
    """What happens to one request and its reply."""

    kind: str = "pass"  # pass, drop, reset, delay, repeat
    where: str = "request"  # request or reply
    at: int = 0
    seconds: float = 0.0


class Network:
    def __init__(self, target: int, seed: int, rate: float) -> None:
        self.target = target
        self.random = random.Random(seed)
        self.rate = rate
        self.counts: dict[str, int] = {}
        self.background: set[asyncio.Task[None]] = set()

    def plan(self) -> Plan:
        draw = self.random
        if draw.random() >= self.rate:
            return Plan()
        kind = draw.choice(["drop", "drop", "reset", "reset", "delay", "repeat", "repeat"])
        # Small offsets are the interesting ones: heads and JSON; large ones hit bodies.
        at = int(draw.uniform(0, 1) ** 4 * SPAN)
        plan = Plan(kind, draw.choice(["request", "reply"]), at, draw.uniform(0, 1) ** 2)
        self.counts[f"{kind} {plan.where}"] = self.counts.get(f"{kind} {plan.where}", 0) + 1
        return plan

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.close()
            return
        connection = Connection(self, (reader, writer), there)
        try:
            await connection.run()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            for stream in (writer, there[1]):
                stream.close()

    def repeat_later(self, request: bytes, seconds: float) -> None:
        task = asyncio.create_task(self._repeat(request, seconds))
        self.background.add(task)
        task.add_done_callback(self.background.discard)

    async def _repeat(self, request: bytes, seconds: float) -> None:
        await asyncio.sleep(seconds)
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            return
        try:
            writer.write(request)
            await writer.drain()
            async with asyncio.timeout(3):
                while await reader.read(CHUNK):
                    pass
        except (OSError, TimeoutError):
            pass
        finally:
            writer.close()


class Connection:
    """One client's connection; a plan per request on it."""

    def __init__(self, network: Network, here: tuple, there: tuple) -> None:
        self.network = network
        self.here = here
        self.there = there
        self.plan = network.plan()
        self.passed = {"request": 0, "reply": 0}
        self.request = bytearray()

    async def run(self) -> None:
        tasks = [
            asyncio.create_task(self.pump("request", self.here[0], self.there[1])),
            asyncio.create_task(self.pump("reply", self.there[0], self.here[1])),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def pump(
        self, where: str, source: asyncio.StreamReader, sink: asyncio.StreamWriter
    ) -> None:
        while True:
            data = await source.read(CHUNK)
            if not data:
                return
            if where == "request":
                if self.passed["reply"]:
                    # The reply has begun: this is the next request.
                    self.plan = self.network.plan()
                    self.passed = {"request": 0, "reply": 0}
                    self.request.clear()
                if len(self.request) <= REPEAT_LIMIT:
                    self.request += data
            elif not self.passed["reply"] and self.plan.kind == "repeat":
                if len(self.request) <= REPEAT_LIMIT:
                    self.network.repeat_later(bytes(self.request), self.plan.seconds)
                self.plan = Plan()
            if not await self.strike(where, data, sink):
                return
            self.passed[where] += len(data)
            sink.write(data)
            await sink.drain()

    async def strike(self, where: str, data: bytes, sink: asyncio.StreamWriter) -> bool:
        """Does what the plan says if its byte is in this data; False ends the connection."""
        plan = self.plan
        reached = plan.where == where and self.passed[where] + len(data) > plan.at
        if not reached or plan.kind in {"pass", "repeat"}:
            return True
        if plan.kind == "delay":
            self.plan = Plan()
            await asyncio.sleep(plan.seconds)
            return True
        keep = max(0, plan.at - self.passed[where])
        sink.write(data[:keep])
        if plan.kind == "reset":
            for stream in (self.here[1], self.there[1]):
                connection = stream.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                stream.transport.abort()
        return False


async def main() -> None:
    die_with_parent()
    listen, target, seed, rate = sys.argv[1:5]
    network = Network(int(target), int(seed), float(rate))
    server = await asyncio.start_server(network.serve, "127.0.0.1", int(listen), limit=CHUNK)
    print("port", server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    print("counts", network.counts, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
