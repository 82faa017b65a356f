"""The vault: the wallet of this machine, and while it is unlocked the root of its secrets, in memory."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final, Never, TypeVar

from protocol.derivation import Root

from ...home import HomeError, HomeInUse
from ...world import Clock, Entropy
from ..seed import ENTROPY_BYTES, WrongPassphrase, root_of
from ..service import WALLET_FILE, connect, create, open_store, open_unlocked, restore_seed, unlock
from ..store import WalletStore
from ..tending import Keeper
from ..wallet import LinkMaker, Wallet
from .telling import EXPECTED, Locked

_T = TypeVar("_T")
_log = logging.getLogger("ecash.wallet")

PATIENCE_S: Final = 10.0
"""How long a page waits until what else uses the wallet is done."""
_AGAIN_S: Final = 0.05  # between two looks whether another process has left the home
_WATCH_MS: Final = 5_000  # between two looks whether anybody still has the pages open
_SETTLE_MS: Final = 30_000  # the owner, who has just unlocked it, comes before the tending
_REST_MS: Final = 10_000  # the owner may be waiting for what is open, and pages take turns with the tending anyway
_MAX_TASKS: Final = 64
_TENDING: Final = "tending"


class Vault:
    """The wallet of one home; one page at a time uses it, and not while a command does.

    `new_words` are those of a wallet that was just made, until its owner has shown that they are written down.

    Args:
        home: the wallet's folder, which may be empty still.
        clock, entropy: the world.
        wanted: tells whether anybody still has the pages open; if not, the vault locks itself.
        link: makes presences at brokers.
        patience_s: how long to wait until what else uses the wallet is done.
        hard: whether a passphrase is stretched at full cost; tests are in a hurry.
    """

    def __init__(
        self,
        home: Path,
        clock: Clock,
        entropy: Entropy,
        wanted: Callable[[], bool],
        link: LinkMaker = connect,
        *,
        patience_s: float = PATIENCE_S,
        hard: bool = True,
    ) -> None:
        self._home = home
        self._clock = clock
        self._entropy = entropy
        self._wanted = wanted
        self._link = link
        self._patience_s = patience_s
        self._hard = hard
        self._root: Root | None = None
        self.new_words = ""
        self._opened = asyncio.Event()
        self._attempt = asyncio.Lock()
        self._turn = asyncio.Lock()
        self._tasks: dict[str, asyncio.Task[Any]] = {}
        self._at_lock: list[Callable[[], object]] = []

    @property
    def exists(self) -> bool:
        """Whether there is a wallet in the home."""
        return (self._home / WALLET_FILE).exists()

    @property
    def unlocked(self) -> bool:
        """Whether the root of the wallet's secrets is at hand."""
        return self._root is not None

    async def create(self, passphrase: str) -> None:
        """Make a new wallet, unlocked; its twelve words are in `new_words`.

        Raises:
            HomeError: if the home is not empty.
        """
        async with self._attempt:
            seed = self._entropy.bytes(ENTROPY_BYTES)
            self.new_words = await create(self._home, passphrase, seed, self._entropy, hard=self._hard)
            self._open(root_of(seed))

    async def restore(self, passphrase: str, seed: bytes) -> None:
        """Make the wallet of a seed (16 bytes) that has been one before, unlocked; it holds no coins yet.

        Raises:
            HomeError: if the home holds something else, or another wallet.
            WrongPassphrase: if it was begun before, with another passphrase.
        """
        async with self._attempt:
            await restore_seed(self._home, passphrase, seed, self._entropy, hard=self._hard)
            self._open(root_of(seed))

    async def unlock(self, passphrase: str) -> str:
        """Try a passphrase; return "" if it opens the wallet, or a sentence. One is tried at a time."""
        async with self._attempt:
            try:
                self._open(await unlock(self._home, passphrase))
            except WrongPassphrase:
                return "That is not this wallet’s passphrase. Nothing was opened."
            except HomeError as error:
                return f"{error}."
        return ""

    def _open(self, root: Root) -> None:
        self._root = root
        self._opened.set()

    def lock(self) -> None:
        """Forget the root of the wallet's secrets, and end what works on in the background."""
        self._root = None
        self.new_words = ""
        self._opened.clear()
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()
        for forget in self._at_lock:
            forget()

    def at_lock(self, forget: Callable[[], object]) -> None:
        """Have something called whenever the vault is locked."""
        self._at_lock.append(forget)

    @asynccontextmanager
    async def wallet(self) -> AsyncIterator[Wallet]:
        """Open the wallet for as long as the context lasts; nobody else uses it meanwhile. Contexts do not nest.

        Raises:
            Locked: if it is locked.
            HomeError: if there is none, or it has been in use for too long.
        """
        async with AsyncExitStack() as held:
            try:
                async with asyncio.timeout(self._patience_s):
                    await held.enter_async_context(self._turn)
                    wallet = await self._enter(held)
            except TimeoutError:
                raise HomeInUse("the wallet is busy with something else just now: try again in a moment") from None
            yield wallet

    async def _enter(self, held: AsyncExitStack) -> Wallet:
        while True:
            if self._root is None:
                raise Locked("the wallet is locked: type its passphrase")
            opening = open_unlocked(self._home, self._root, self._clock, self._entropy, self._link)
            try:
                return await held.enter_async_context(opening)
            except HomeInUse:
                await asyncio.sleep(_AGAIN_S)  # a command has it

    @asynccontextmanager
    async def store(self) -> AsyncIterator[WalletStore]:
        """Open the wallet's file to look at it only, which takes no turn and no passphrase.

        Raises:
            HomeError: if there is no wallet.
        """
        async with open_store(self._home) as store:
            yield store

    def start(self, name: str, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Have work done in the background, until it ends or the vault is locked; one of the same name is ended.

        Of those that are done, the newest are kept, so that a page can tell how they have ended.
        """
        for old in [self._tasks.pop(name, None), *self._surplus()]:
            if old is not None:
                old.cancel()
        task = self._tasks[name] = asyncio.create_task(work, name=name)
        task.add_done_callback(_tell)
        return task

    async def once(
        self, name: str, work: Callable[[], Coroutine[Any, Any, _T]], *, again: bool = False
    ) -> asyncio.Task[_T]:
        """Have work done once, however often it is asked for under this name, and wait for its end, but not for long.

        Args:
            name: of the work.
            work: begins it.
            again: begin it anew when it has ended well, too: it is known to do nothing twice.

        Returns:
            The work; if it is not done, it goes on in the background.

        Raises:
            Locked: if the vault was locked meanwhile, which has ended it.
        """
        task: asyncio.Task[_T] | None = self._tasks.get(name)
        if task is None or (task.done() and (again or task.cancelled() or task.exception() is not None)):
            task = self.start(name, work())
        await asyncio.wait({task}, timeout=self._patience_s)
        if task.cancelled():
            raise Locked("the wallet was locked meanwhile")
        return task

    def _surplus(self) -> list[asyncio.Task[Any]]:
        done = [name for name, task in self._tasks.items() if task.done()]
        return [self._tasks.pop(name) for name in done[: max(0, len(self._tasks) - _MAX_TASKS + 1)]]

    def task(self, name: str) -> asyncio.Task[Any] | None:
        """Return the work of this name, which may have ended; None if there is none (any more)."""
        return self._tasks.get(name)

    async def run(self) -> Never:
        """Tend the coins while the vault is unlocked, and lock it when nobody wants it any more; until cancelled."""
        try:
            while True:
                await self._opened.wait()
                tending = self.task(_TENDING)
                if tending is None or tending.done():
                    self.start(_TENDING, self._tend())
                await self._clock.sleep_until(self._clock.now() + _WATCH_MS)
                if self.unlocked and not self._wanted():
                    _log.info("the wallet locks itself: nobody has used its pages for a while")
                    self.lock()
        finally:
            left = list(self._tasks.values())
            self.lock()
            await asyncio.gather(*left, return_exceptions=True)

    async def _tend(self) -> Never:
        await self._clock.sleep_until(self._clock.now() + _SETTLE_MS)
        await Keeper(self.wallet, self.store, self._clock, self._entropy, rest_ms=_REST_MS).run()


def _tell(task: asyncio.Task[Any]) -> None:
    """Log how work in the background has failed; the page that waits for it can tell more."""
    error = None if task.cancelled() else task.exception()
    if error is not None:
        _log.warning(
            "%s has failed: %s", task.get_name(), error, exc_info=None if isinstance(error, EXPECTED) else error
        )
