"""The bank under test: real desks over real books, which lose their process at any durable step.

A *crash* is what a kill leaves: the file and its write-ahead log are copied at a trace point, whoever was at work goes
on and is not heard, and a new agent opens the copy.
"""

import asyncio
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple
from unittest import mock

import msgspec

import agents.bank.agent
import agents.bank.desks.desk
import agents.bank.group_commit
from agents.bank.agent import BankAgent
from agents.bank.audit import audit
from agents.bank.home import DAY_MS, BankKeys, sign_keyset
from agents.bank.signer import SoftwareSigner, generate_rsa_key, public_key_of
from agents.bank.sqlite import SqliteBooks
from agents.bank.store import DestinationRow
from agents.invitation import hash_invitation
from broker.port import Incoming, Outgoing
from protocol import topics
from protocol.commission import Commission
from protocol.envelope import PRIVATE_BYTES, EnvelopePrivateKey, Suite
from protocol.keyset import VERSION, Denomination, KeyRing, Keyset, Limits, Tariff, check_successor
from protocol.signatures import public_key
from tests.simulation.clock import VirtualClock
from tests.world import seed

from .accounts import Account, Kind, Rate
from .model import MAX_COINS, Model

START: Final = 1_700_000_000_000
NAME: Final = "north"
VALUES: Final = (1, 2, 4, 8)
EPOCHS: Final = 3
SPARES: Final = 1
"""How often each value can be revoked and get a new key."""
INVITATION: Final = bytes(16)
HOLDERS: Final = ("alice", "bob", "shop", "carol")
"""Who has an account; carol's waits for her. Everybody else is a stranger."""
SHOP: Final = "shop"
FUNDS: Final = 40
DESTINATION: Final = DestinationRow("011000015", "1234", "checking", "The Shop")
TARIFFS: Final = (
    {"withdrawal": Rate(0, 10), "deposit": Rate(0, 10), "exchange": Rate(0, 10)}
    | {"refund": Rate(1, 0), "redemption": Rate(0, 10), "payout": Rate(2, 0)},
    {"withdrawal": Rate(1, 0), "deposit": Rate(0, 0), "exchange": Rate(0, 0)}
    | {"refund": Rate(0, 10), "redemption": Rate(0, 25), "payout": Rate(1, 10)},
)
POINTS: Final = ("opened", "posting", "before_commit", "committed", "posted", "answering")
"""Where a process may be killed, in the order in which a request comes there."""


def key_seed(name: str) -> bytes:
    """The seed of a holder's account key."""
    return seed(f"key of {name}")


class Series(NamedTuple):
    """A denomination with its private key."""

    denomination: Denomination
    private: bytes


class Keys(NamedTuple):
    """All keys that the bank will ever have, made once for each process: RSA keys cost more than a history."""

    epochs: tuple[tuple[Series, ...], ...]
    spares: dict[int, tuple[Series, ...]]
    keys: BankKeys
    signer: "RememberingSigner"
    ring: KeyRing
    kinds: dict[bytes, Kind]

    @property
    def envelope(self) -> EnvelopePrivateKey:
        return next(iter(self.keys.envelopes.values()))


class RememberingSigner:
    """A `Signer` that signs a value once: signatures are deterministic, and histories share their blinded values."""

    def __init__(self, signer: SoftwareSigner) -> None:
        self._signer = signer
        self._signed: dict[tuple[bytes, bytes], bytes] = {}

    async def blind_sign(self, denomination: bytes, blinded: Sequence[bytes]) -> list[bytes]:
        new = [value for value in blinded if (denomination, value) not in self._signed]
        if new:
            signatures = await self._signer.blind_sign(denomination, new)
            self._signed |= {(denomination, value): one for value, one in zip(new, signatures, strict=True)}
        return [self._signed[denomination, value] for value in blinded]


@cache
def keys() -> Keys:
    """The keys of this process."""
    epochs = tuple(tuple(_series(value, 4 * i, 6 * (i + 1)) for value in VALUES) for i in range(EPOCHS))
    spares = {value: tuple(_series(value, 0, 9) for _ in range(SPARES)) for value in VALUES}
    every = [series for group in (*epochs, *spares.values()) for series in group]
    envelope = EnvelopePrivateKey(Suite.X25519, seed("envelope")[: PRIVATE_BYTES[Suite.X25519]])
    private = {series.denomination.id: series.private for series in every}
    kinds = {
        d.id: Kind(d.value, d.mint_from, d.mint_until, d.spend_until, d.redeem_until)
        for d in (series.denomination for series in every)
    }
    identity = seed("identity")
    first = _keyset(identity, envelope, tuple(series.denomination for series in every))
    return Keys(
        epochs,
        spares,
        BankKeys(identity, {envelope.key_id: envelope}, private),
        RememberingSigner(SoftwareSigner(private, threads=1)),
        KeyRing(first),
        kinds,
    )


def _series(value: int, first_day: int, last_day: int) -> Series:
    private = generate_rsa_key()
    days = (first_day, last_day, last_day + 4, last_day + 8)
    dates = [START + day * DAY_MS for day in days]
    return Series(Denomination("USD", value, public_key_of(private).to_der(), *dates), private)


def _keyset(identity: bytes, envelope: EnvelopePrivateKey, denominations: tuple[Denomination, ...]) -> Keyset:
    return Keyset(
        version=VERSION,
        bank=NAME,
        number=0,
        chain=(),
        issued_at=START,
        identity=public_key(identity),
        envelope_keys=(envelope.public,),
        denominations=denominations,
        tariff=_tariff(0),
        limits=Limits(MAX_COINS, 1),
        revoked=(),
    )


def _tariff(number: int) -> Tariff:
    rates = {name: Commission(rate.flat, rate.percent * 10_000, 0, 0) for name, rate in TARIFFS[number % 2].items()}
    return Tariff(**rates)


def first_keyset() -> Keyset:
    """What the bank announces at the beginning: its first epoch."""
    every = keys()
    denominations = tuple(series.denomination for series in every.epochs[0])
    return _keyset(every.keys.identity, every.envelope, denominations)


class _Quiet:
    """As much of a link as `BankAgent.adopt` needs."""

    async def subscribe(self, *filters: str) -> None:
        """Nobody writes."""

    async def announce(self, message: Outgoing) -> None:
        """Nobody listens."""


class _Alone(asyncio.SelectorEventLoop):
    """An event loop that does at once what others hand to a thread.

    A history asks one thing after the other, so nothing could run beside it; a change of threads costs more than most
    of what is done there. The books' writer stays a thread of its own.
    """

    def run_in_executor(self, executor: object, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        done = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - it is raised again where the future is awaited
            done.set_exception(error)
        return done


class Workshop:
    """What histories share: keys, an event loop, a folder, and the books as they begin.

    Args:
        folder: an empty one, on a file system that is in memory.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.loop = _Alone()
        self.template = folder / "first.db"
        self.bank: Bank | None = None
        self._count = 0
        self.loop.run_until_complete(self._prepare())

    async def _prepare(self) -> None:
        async with SqliteBooks(self.template, lambda: START) as books:
            await books.add_keyset(0, sign_keyset(keys().keys.identity, first_keyset()))
            for name in HOLDERS:
                key = public_key(key_seed(name))
                kind = "merchant" if name == SHOP else "client"
                invited = name == HOLDERS[-1]
                invitation = hash_invitation(INVITATION) if invited else b""
                account = await books.open_account(kind, name, name.title(), "USD", b"" if invited else key, invitation)
                await books.credit(account.number, FUNDS, f"first of {name}")

    def model(self) -> Model:
        """The model of the books as they begin."""
        model = Model(keys().kinds, [series.denomination.id for series in keys().epochs[0]], TARIFFS[0])
        for number, name in enumerate(HOLDERS, 1001):
            model.accounts[number] = Account(number, name == SHOP, "" if name == HOLDERS[-1] else name)
            model.credit(number, FUNDS, f"first of {name}")
        return model

    def path(self) -> Path:
        """A new file name."""
        self._count += 1
        return self.folder / f"books-{self._count}.db"

    def open(self) -> "Bank":
        """A bank at its beginning."""
        path = self.path()
        shutil.copyfile(self.template, path)
        self.bank = Bank(self, path)
        return self.bank

    def point(self, name: str) -> None:
        """Take the place of `agents.trace.point`."""
        if self.bank is not None:
            self.bank.point(name)

    @classmethod
    @contextmanager
    def at(cls, folder: Path) -> "Iterator[Workshop]":
        """A workshop, with the trace points in its hands."""
        workshop = cls(folder)
        with ExitStack() as stack:
            for module in (agents.bank.agent, agents.bank.desks.desk, agents.bank.group_commit):
                stack.enter_context(mock.patch.object(module, "point", workshop.point))
            yield workshop
        workshop.loop.close()


class Bank:
    """A bank over a file; its clock stands still until `clock.advance`."""

    def __init__(self, workshop: Workshop, path: Path) -> None:
        self._workshop = workshop
        self._path = path
        self._kill_at = ""
        self._left: Path | None = None
        self.clock = VirtualClock(START)
        self.keyset = first_keyset()
        self.books: SqliteBooks
        self.agent: BankAgent
        self._look: sqlite3.Connection
        self._open()

    # ---------------------------------------------------------------- its process

    def _open(self) -> None:
        self._workshop.loop.run_until_complete(self._open_books())
        self._look = sqlite3.connect(self._path)

    async def _open_books(self) -> None:
        every = keys()
        self.books = await SqliteBooks(self._path, self.clock.now).__aenter__()
        announcement = sign_keyset(every.keys.identity, self.keyset)
        self.agent = BankAgent(self.keyset, announcement, every.keys, self.books, every.signer, self.clock)

    def close(self) -> None:
        """End the process as it should end."""
        self._stop()
        self._path.unlink()

    def _stop(self) -> None:
        self._look.close()
        self._workshop.loop.run_until_complete(self.books.close())
        self.agent._desk.close()

    def restart(self) -> None:
        """End the process and begin another one with the same file."""
        self._stop()
        self._open()

    def point(self, name: str) -> None:
        """Pass a trace point; leave the files here as they are if this is where the process is killed."""
        if self._kill_at and name.rpartition(".")[2] == self._kill_at:
            self._kill_at, self._left = "", self._copy()

    def _copy(self) -> Path:
        target = self._workshop.path()
        for suffix in ("", "-wal"):
            source = Path(f"{self._path}{suffix}")
            if source.exists():
                shutil.copyfile(source, f"{target}{suffix}")
        return target

    def kill(self) -> None:
        """Kill the process between two requests."""
        self._left = self._copy()
        self._take_over()

    def _take_over(self) -> None:
        assert self._left is not None
        self.close()
        self._path, self._left = self._left, None
        self._open()

    # ---------------------------------------------------------------- requests

    def ask(self, kind: str, envelope: bytes, kill_at: str = "") -> tuple[bytes, bool]:
        """Hand over a request, and kill the process at this point if it comes there.

        Returns:
            The sealed answer, and whether the process was killed, and the answer never left.
        """
        self._kill_at = kill_at
        topic = topics.bank_request(NAME, 0, kind, "caller")
        answer = self._workshop.loop.run_until_complete(self.agent.handle(Incoming(topic, envelope)))
        assert answer is not None, f"a request of kind {kind} was dropped: {self.agent.dropped}"
        self._kill_at = ""
        killed = self._left is not None
        if killed:
            self._take_over()
        return answer.payload, killed

    def announce(self, denominations: Sequence[Denomination], revoked: Sequence[bytes]) -> None:
        """Announce a keyset with further denominations, and the other tariff."""
        known, now = self.keyset, self.clock.now()
        new = msgspec.structs.replace(
            known,
            number=known.number + 1,
            chain=(*known.chain, known.hash),
            issued_at=now,
            denominations=(*(d for d in known.denominations if d.redeem_until > now), *denominations),
            tariff=_tariff(known.number + 1),
            revoked=(*known.revoked, *revoked),
        )
        check_successor(known, new)
        announcement = sign_keyset(keys().keys.identity, new)
        loop = self._workshop.loop
        loop.run_until_complete(self.books.add_keyset(new.number, announcement))
        loop.run_until_complete(self.agent.adopt(new, announcement, keys().keys, _Quiet()))  # type: ignore[arg-type]
        self.keyset = new

    # ---------------------------------------------------------------- what is in the books

    def compare(self, model: Model) -> None:
        """Compare tables with the model, not by the bank's own queries."""
        ledgers = self._look.execute("SELECT ledger, sum(amount) FROM entry GROUP BY ledger")
        assert {ledger: amount for ledger, amount in ledgers if amount} == model.ledgers()
        issued = dict(self._look.execute("SELECT denomination, count(*) FROM issued GROUP BY denomination"))
        spent = dict(self._look.execute("SELECT denomination, count(*) FROM spent GROUP BY denomination"))
        assert {key: (issued[key], spent.get(key, 0)) for key in issued} == model.counts()
        assert spent.keys() <= issued.keys()
        answered = {key for (key,) in self._look.execute("SELECT request_id FROM answer")}
        assert answered == model.stored
        accounts = self._look.execute("SELECT number, generation FROM account ORDER BY number").fetchall()
        assert accounts == [(number, account.generation) for number, account in sorted(model.accounts.items())]

    def stored(self, request_id: bytes) -> bytes | None:
        """The answer that is in the books for a request."""
        row = self._look.execute("SELECT answer FROM answer WHERE request_id = ?", (request_id,)).fetchone()
        return row[0] if row else None

    async def compare_as_told(self, model: Model) -> None:
        """Compare what the books' own methods tell with the model."""
        told = await self.books.accounts()
        assert {account.number: (account.generation, balance) for account, balance in told} == {
            number: (account.generation, account.balance) for number, account in model.accounts.items()
        }
        for number, account in model.accounts.items():
            assert await self.books.balance(number) == account.balance
        _, minted = await self.books.minted()
        assert {row.denomination: (row.minted, row.spent) for row in minted} == model.counts()

    async def faults(self) -> list[str]:
        """What the audit finds."""
        denominations = {key: (kind.value, "USD") for key, kind in keys().kinds.items()}
        snapshot = await self.books.snapshot()
        return audit(snapshot, denominations, identity=public_key(keys().keys.identity), sample=50).faults


def folder_of(parent: Path) -> Path:
    """A folder in memory if there is one, else this one."""
    return Path("/dev/shm") if Path("/dev/shm").is_dir() else parent
