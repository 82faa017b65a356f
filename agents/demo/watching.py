"""What an observer at the broker sees while the story is told."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from broker.address import BrokerUrl
from broker.observe import Sighting, line, watch

from ..wire import describe


class Watcher:
    """Collects what was seen; `lines` hands over what is new since it was last asked."""

    def __init__(self) -> None:
        self._seen: list[Sighting] = []

    def note(self, sighting: Sighting) -> None:
        """Take note of a message."""
        self._seen.append(sighting)

    def lines(self, *kinds: str) -> list[tuple[str, str]]:
        """Return kind and line of the new sightings of these kinds (and answers to them); forget all others."""
        new, self._seen = self._seen, []
        return [(one.kind, line(one)) for one in new if one.kind.removeprefix("answer ") in kinds]


@contextmanager
def watching(broker: BrokerUrl) -> Iterator[Watcher]:
    """Observe a broker in a thread of its own until the context ends."""
    watcher, loop = Watcher(), asyncio.new_event_loop()
    task = loop.create_task(watch(broker, watcher.note, describe=describe))

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(asyncio.wait({task}))
        loop.close()

    thread = threading.Thread(target=run, name="observer")
    thread.start()
    try:
        yield watcher
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
