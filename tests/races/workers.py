"""Processes that serve one bank's books side by side, each with a connection of its own, and start from a barrier."""

import asyncio
import multiprocessing
from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

from agents.bank.agent import BankAgent
from agents.bank.home import keys_of
from agents.bank.signer import SoftwareSigner
from agents.bank.sqlite import SqliteBooks
from agents.world import SystemClock
from broker.port import Incoming
from protocol import topics
from protocol.keyset import read_keyset

PATIENCE_S: Final = 120
_FORKS: Final = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload([__name__])


class Order(NamedTuple):
    """A request for one worker; it is handed in when it is `at` (milliseconds since 1970), if that is to come."""

    kind: str
    envelope: bytes
    at: int = 0


Race = Sequence[Order]
"""What each worker is asked at one moment."""


class Workers:
    """So many workers.

    Args:
        books: the file.
        home: of the bank, for its keys.
        count: how many.
    """

    def __init__(self, books: Path, home: Path, count: int) -> None:
        self._barrier = barrier = _FORKS.Barrier(count)  # who is still to start needs it
        self._pipes: list[Connection[object, object]] = []
        self._processes = []
        for _ in range(count):
            ours, theirs = _FORKS.Pipe()
            process = _FORKS.Process(target=_work, args=(books, home, theirs, barrier), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pipe in self._pipes:
            pipe.send(None)
        for process in self._processes:
            process.join(PATIENCE_S)
            process.close()
        for pipe in self._pipes:
            pipe.close()

    @property
    def count(self) -> int:
        return len(self._pipes)

    def run(self, races: Sequence[Race]) -> list[tuple[bytes, ...]]:
        """Run races one after the other; return the sealed answers of each, by worker."""
        for pipe, orders in zip(self._pipes, zip(*races, strict=True), strict=True):
            pipe.send(orders)
        answers = []
        for pipe in self._pipes:
            if not pipe.poll(PATIENCE_S):
                raise TimeoutError("a worker does not answer")
            answers.append(pipe.recv())
        return list(zip(*answers, strict=True))


def _work(books: Path, home: Path, pipe: "Connection[object, object]", barrier: Barrier) -> None:
    asyncio.run(_serve(books, home, pipe, barrier))


async def _serve(path: Path, home: Path, pipe: "Connection[object, object]", barrier: Barrier) -> None:
    keys, clock = keys_of(home), SystemClock()
    async with SqliteBooks(path, clock.now) as books:
        announcement = (await books.keysets())[-1]
        signer = SoftwareSigner(keys.denominations, threads=1)
        agent = BankAgent(read_keyset(announcement), announcement, keys, books, signer, clock)
        while (orders := pipe.recv()) is not None:
            answers = []
            for order in orders:  # type: ignore[attr-defined]
                barrier.wait(PATIENCE_S)
                await clock.sleep_until(order.at)
                message = Incoming(topics.bank_request(agent.name, 0, order.kind, "racer"), order.envelope)
                answer = await agent.handle(message)
                answers.append(answer.payload if answer else b"")
            pipe.send(answers)
        signer.close()
