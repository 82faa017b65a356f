"""The demonstration in a browser: a shop that takes e-cash, a wallet and a bank, until Ctrl-C."""

import time
from contextlib import ExitStack
from pathlib import Path
from subprocess import Popen
from typing import Final, NamedTuple

from ..bank.web.key import operator_key
from ..home import HomeError
from ..web.listen import Listen
from ..world import SystemEntropy
from .processes import PASSPHRASE, StepFailed, command, running
from .story import Say, Story

PORTS: Final = {"shop": 8080, "wallet": 8090, "bank": 8081}
"""Where the three sites listen, unless something else does."""


class Address(NamedTuple):
    """A site of the demonstration, and the secret that opens it, if it asks for one."""

    what: str
    url: str
    secret: str


class Web(Story):
    """Alice has money at the bank and coins in her wallet; whoever plays buys with them, sells, and looks at the books.

    `addresses` holds the three sites by name once they are open.
    """

    def __init__(self, folder: Path, engine: str, port: int, say: Say) -> None:
        super().__init__(folder, engine, port, say)
        self.addresses: dict[str, Address] = {}
        self._processes: list[Popen[bytes]] = []
        self._ports = {name: _free(port) for name, port in PORTS.items()}

    def _shop_options(self) -> tuple[str, ...]:
        return ("--web", f":{self._ports['shop']}")

    def _play(self, stack: ExitStack) -> None:
        with self._step("withdraw", "She withdraws 20.00: the bank signs coins that it cannot see"):
            self._say("  " + command("client", "withdraw", "20.00", "--home", str(self.wallet)).stdout.strip())
        with self._step("sites", "Wallet and bank open their pages on this machine"):
            for name, agent, home in (("wallet", "client", self.wallet), ("bank", "bank", self.bank)):
                options = ("--listen", f":{self._ports[name]}")
                opened = stack.enter_context(
                    running(agent, home, "is open", *options, command="web", log=f"{name}-web")
                )
                self._processes.append(opened)
        self._show_addresses()
        self._wait()

    def _show_addresses(self) -> None:
        office = command("merchant", "web", "--home", str(self.shop), "--json").last_json["office_key"]
        operator = operator_key(self.bank, SystemEntropy())
        self.addresses = {
            "shop": Address("The shop; buy something", self._url("shop"), ""),
            "office": Address("The shopkeeper's office", self._url("shop") + "office", office),
            "wallet": Address("Alice's wallet, which pays", self._url("wallet"), PASSPHRASE),
            "bank": Address("The bank, for its operator", self._url("bank"), operator),
        }
        self._say("")
        for one in self.addresses.values():
            self._say(f"  {one.what:<27} [bold]{one.url}[/]")
            if one.secret:
                self._say(f"  {'':<27} [dim]opens with:[/] {one.secret}")
        self._say(
            "\n  Open the wallet first, and let it open the shop's payment links. [bold]Ctrl-C[/] ends everything."
        )

    def _url(self, name: str) -> str:
        return f"http://{name}.localhost:{self._ports[name]}/"

    def _wait(self) -> None:
        """Wait until Ctrl-C.

        Raises:
            StepFailed: if a site ends before.
        """
        try:
            while all(process.poll() is None for process in self._processes):
                time.sleep(0.5)
        except KeyboardInterrupt:
            return
        raise StepFailed("one of the sites has ended by itself")


def _free(port: int) -> int:
    """Return the port if nothing listens there, or another one that is free."""
    for wanted in (port, 0):
        try:
            with Listen("127.0.0.1", wanted).bind() as probe:
                found: int = probe.getsockname()[1]
                return found
        except HomeError:
            continue
    return port
