"""What a benchmark runs on: a broker, a bank and perhaps a merchant, each a process, in a folder that goes away."""

import secrets
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from broker import embedded, mosquitto
from broker.address import BrokerUrl
from broker.child import stop
from protocol.bank.desk import Account
from protocol.keyset import KeyRing
from protocol.signatures import public_key

from ..address import BankAddress
from ..bank import home as bank_home
from ..bank.service import open_books
from ..client import service as client
from ..client.wallet import Wallet
from ..merchant import home as merchant_home
from ..world import SystemClock, SystemEntropy
from .failure import BenchFailed

BANK: Final = "bank"
SHOP: Final = "shop"
SKU: Final = "thing"
CURRENCY: Final = "USD"
MOST_DENOMINATIONS: Final = 15
_FUNDS: Final = 1 << 50
UNHURRIED: Final = {"request_rate": 10**9, "request_burst": 10**9, "requests_each": 256}
"""The load comes from one client: what is measured is what the agents can do, not what they grant to one."""
_CATALOG: Final = '[[item]]\nsku = "{sku}"\ntitle = "A thing"\nprice = "{price} {currency}"\n'

BROKERS: Final = ("embedded", "mosquitto")


class Broker(NamedTuple):
    """A running broker: how to log in as a name, and its process if it is known."""

    kind: str
    log_in: Callable[[str], BrokerUrl]
    pid: int | None


def best_broker() -> str:
    """Return `mosquitto` if it is installed, else `embedded`."""
    try:
        mosquitto.find("mosquitto")
    except mosquitto.NotInstalled:
        return "embedded"
    return "mosquitto"


@contextmanager
def running_broker(kind: str, home: Path) -> Iterator[Broker]:
    """Run a broker of one of the `BROKERS` on a free port.

    Raises:
        NotInstalled, BrokerFailed: if it does not run.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    if kind == "embedded":
        with embedded.embedded_broker(port, home) as url:
            yield Broker(kind, lambda _: url, None)
    else:
        with mosquitto.mosquitto_broker(port, home) as running:
            yield Broker(kind, running.log_in, running.process.pid)


@contextmanager
def _agent(module: str, home: Path) -> Iterator[int]:
    """Run `python -m module run` on a home, in a session of its own: a Ctrl-C is for us, and we end it.

    Raises:
        BenchFailed: on leaving, if the agent has ended before.
    """
    log = home.with_suffix(".log")
    command = [sys.executable, "-m", module, "run", "--home", str(home), "--log", "warning"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield process.pid
    finally:
        died = process.poll() is not None
        stop(process)
        if died:
            raise BenchFailed(f"{module} ended by itself:\n{log.read_text(errors='replace')[-2000:]}")


class Rig:
    """A bank with its books, and who deals with it.

    Args:
        folder: an empty folder; the bank is made in it.
        broker: where everybody meets.
        denominations: how many there are: coins are worth 1, 2, 4 …
        admission: the agents' settings about how much they take in.
    """

    def __init__(
        self, folder: Path, broker: Broker, denominations: int, admission: Mapping[str, int] = UNHURRIED
    ) -> None:
        self.clock, self.entropy = SystemClock(), SystemEntropy()
        self.broker = broker
        self.bank_home = folder / BANK
        self._folder = folder
        self._admission = admission
        settings = bank_home.Settings(
            BANK, CURRENCY, str(broker.log_in(BANK)), secrets.token_hex(8), largest_denomination=denominations - 1
        )
        settings = msgspec.structs.replace(settings, **self._admission)
        self.keyset = bank_home.create(self.bank_home, settings, self.clock, self.entropy)
        self.ring = KeyRing(self.keyset)
        self._identity = bank_home.keys_of(self.bank_home).identity
        self.address: BankAddress = bank_home.address_of(settings, self._identity)

    async def enter_keyset(self) -> None:
        """Finish the bank: enter its keyset in the books."""
        async with open_books(self.bank_home, self.clock) as books:
            await books.add_keyset(0, bank_home.sign_keyset(self._identity, self.keyset))

    def denominations(self, coins: int) -> list[bytes]:
        """Return the denominations of so many coins: each value in turn."""
        ids = [key for key, _ in self.ring.items()]
        return [ids[i % len(ids)] for i in range(coins)]

    def worth(self, denominations: list[bytes]) -> int:
        """Return what coins of these are worth together, in minor units."""
        return sum(self.ring.denomination(one).value for one in denominations)

    @contextmanager
    def open_bank(self) -> Iterator[int]:
        """Run the bank and give its process id."""
        with _agent("agents.bank", self.bank_home) as pid:
            yield pid

    @contextmanager
    def open_shop(self, price: int) -> Iterator[int]:
        """Run a merchant, whose account `open_account` must have opened, and give its process id."""
        home = self._folder / SHOP
        catalog = _CATALOG.format(sku=SKU, price=f"{price // 100}.{price % 100:02}", currency=CURRENCY)
        (home / "catalog.toml").write_text(catalog)
        with _agent("agents.merchant", home) as pid:
            yield pid

    def make_shop(self) -> bytes:
        """Make the merchant's home and return its public key."""
        settings = merchant_home.Settings(
            SHOP, [str(self.address)], str(self.broker.log_in(SHOP)), secrets.token_hex(8)
        )
        settings = msgspec.structs.replace(settings, **self._admission)
        return merchant_home.create(self._folder / SHOP, settings, self.entropy).public

    async def open_account(self, kind: str, name: str, key: bytes) -> Account:
        """Open an account for a public key; a client's is well funded."""
        async with open_books(self.bank_home, self.clock) as books:
            account = await books.open_account(kind, name, name, CURRENCY, key, b"")
            if kind == "client":
                await books.credit(account.number, _FUNDS, f"for {name}")
            return account

    @asynccontextmanager
    async def customer(self, name: str) -> AsyncIterator[Wallet]:
        """Open a new wallet with a well funded account at the running bank."""
        home = self._folder / name
        await client.create(home, "", self.entropy.bytes(16), self.entropy, hard=False)
        async with client.open_wallet(home, "", self.clock, self.entropy) as wallet:
            await self.open_account("client", name, public_key(wallet.root.account(self.keyset.identity)))
            await wallet.register(self.address, b"")
            yield wallet
