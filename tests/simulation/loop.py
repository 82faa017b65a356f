"""An event loop without a machine under it: time is virtual, threads are none, and what is dead does not run.

When nothing is ready, the loop jumps to the next timer. Work for an executor is done on the loop, one piece after the
other for each executor, after the time that its process's disk takes. Two runs of one program are the same run.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from contextvars import Context
from typing import Any, Final

from .process import LIFE, Killed, Life

NOBODY: Final = Context()
"""The context of what happens outside of all processes: it goes on whoever dies."""


class Stuck(Exception):
    """Nothing is left that could ever happen."""


class _Lane:
    """What an executor still has to do, in order."""

    def __init__(self, loop: "VirtualLoop", life: Life | None) -> None:
        self._loop = loop
        self._life = life
        self._waiting: deque[Callable[[], None]] = deque()
        self._busy = False

    def add(self, job: Callable[[], None]) -> None:
        self._waiting.append(job)
        if not self._busy:
            self._next()

    def _next(self) -> None:
        self._busy = True
        delay = self._life.disk.delay() if self._life else 0.0
        if delay:
            self._loop.call_later(delay, self._run)
        else:
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        self._waiting.popleft()()
        self._busy = False
        if self._waiting:
            self._next()


class VirtualLoop(asyncio.BaseEventLoop):
    """The loop.

    Attributes:
        after_turn: is called after each turn of the loop.
        failures: what ended in an exception that nobody took.
    """

    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]

    def __init__(self) -> None:
        super().__init__()
        self.after_turn: Callable[[], None] = lambda: None
        self.failures: list[str] = []
        self._virtual = 0.0
        self._lanes: dict[tuple[int, int], _Lane] = {}
        self._buried: list[asyncio.Handle] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self.set_task_factory(self._make_task)
        self.set_exception_handler(self._unhandled)

    def time(self) -> float:
        """Return virtual seconds since the world began."""
        return self._virtual

    def _make_task(self, loop: asyncio.AbstractEventLoop, coro: Any, context: Context | None = None) -> Any:
        task = asyncio.Task(coro, loop=loop, context=context)
        self._tasks.add(task)  # also when its process is dead: nothing of it may be cleaned up before the end
        if len(self._tasks) > 4000:
            self._tasks = {one for one in self._tasks if not one.done()}
        return task

    def _unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, Killed):
            self.failures.append(f"{context.get('message')}: {error!r}")

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> asyncio.Handle:  # type: ignore[override]
        """Take a callback's turn down; nobody calls from another thread."""
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def _run_once(self) -> None:
        ready, scheduled = self._ready, self._scheduled
        if not ready:
            self._drop_cancelled()
            if not scheduled:
                raise Stuck
            self._virtual = max(self._virtual, scheduled[0].when())
        while scheduled and scheduled[0].when() <= self._virtual:
            timer = heapq.heappop(scheduled)
            timer._scheduled = False  # type: ignore[attr-defined]
            ready.append(timer)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            life: Life | None = handle._context.get(LIFE)  # type: ignore[attr-defined]
            if life is None or life.lives():
                handle._run()
            else:
                self._buried.append(handle)
        self.after_turn()

    def _drop_cancelled(self) -> None:
        scheduled = self._scheduled
        while scheduled and scheduled[0].cancelled():
            heapq.heappop(scheduled)._scheduled = False  # type: ignore[attr-defined]

    def run_in_executor(self, executor: Executor | None, func: Any, *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """Do the work on the loop, when its turn and its time have come."""
        future = self.create_future()
        life = LIFE.get()

        def run() -> None:
            try:
                result = func(*args)
            except Killed:
                raise
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is the caller's
                if not future.done():
                    future.set_exception(error)
            else:
                if not future.done():
                    future.set_result(result)

        if executor is None:
            _Lane(self, life).add(run)
        else:
            self._lanes.setdefault((id(life), id(executor)), _Lane(self, life)).add(run)
        return future

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """There are no threads."""
        return self.call_soon(callback, *args, context=context)

    def _write_to_self(self) -> None:
        """There is no selector to wake."""

    def play(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine to its end, then put away everything that was still under way."""
        asyncio.set_event_loop(self)
        try:
            return self.run_until_complete(work)
        finally:
            self._put_away()
            asyncio.set_event_loop(None)
            self.close()

    def _put_away(self) -> None:
        """End what never ended, without a sound: nothing that it does any more is part of the world."""
        asyncio._set_running_loop(self)
        try:
            for task in [one for one in self._tasks if not one.done()]:
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                _close(task.get_coro())
        finally:
            asyncio._set_running_loop(None)
        for task in self._tasks:
            if task.done() and not task.cancelled():
                task.exception()
        self._tasks.clear()
        self._buried.clear()
        self._ready.clear()
        self._scheduled.clear()


def _close(coro: Any) -> None:
    """Close a coroutine, however much it wants to wait in its `finally`."""
    for _ in range(20):
        try:
            coro.close()
        except BaseException:  # noqa: BLE001 - what it dies of concerns nobody
            continue
        return
