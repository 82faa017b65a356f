"""The story that the demonstration tells: from the signed keyset to the receipt, and a coin spent only once."""

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from broker.address import BrokerUrl
from broker.embedded import embedded_broker
from broker.mosquitto import mosquitto_broker

from .processes import StepFailed, command, running
from .watching import Watcher, watching

_SHOWN = 3
_LOGINS = ("bank", "shop", "observer")


class Step(NamedTuple):
    """One step of the story, as the report has it."""

    name: str
    ok: bool
    ms: int


Say = Callable[[str], None]


class Story:
    """A story as it is told: its scenes, in `tell`.

    Args:
        folder: where everything lives; the agents' homes are below it.
        engine: `embedded` or `mosquitto`.
        say: tells a line of the story.
        port: of the broker on 127.0.0.1.
    """

    def __init__(self, folder: Path, engine: str, port: int, say: Say) -> None:
        self.steps: list[Step] = []
        self.bank, self.shop = folder / "bank", folder / "shop"
        self.wallet, self.copy = folder / "wallet", folder / "copied-wallet"
        self._folder = folder
        self._engine = engine
        self._port = port
        self._say = say
        self._address = ""
        self._words = ""
        self._watcher = Watcher()

    @contextmanager
    def _step(self, name: str, title: str) -> Iterator[None]:
        self._say(f"\n[bold]{len(self.steps) + 1}. {title}[/]")
        begun, ok = time.monotonic(), False
        try:
            yield
            ok = True
        finally:
            self.steps.append(Step(name, ok, round((time.monotonic() - begun) * 1000)))

    def tell(self) -> None:
        """Play the whole story; the agents have stopped when it returns.

        Raises:
            StepFailed: if something did not go as it must.
        """
        with ExitStack() as stack:
            self._begin(stack)
            self._play(stack)
            with self._step("stop", "Everybody stops"):
                stack.close()

    def _play(self, stack: ExitStack) -> None:
        """What is particular to a story."""
        raise NotImplementedError

    def _shop_options(self) -> tuple[str, ...]:
        """With which options the shop runs."""
        return ()

    def _begin(self, stack: ExitStack) -> None:
        """Start broker, bank and shop, and make Alice's wallet."""
        urls = self._start_broker(stack)
        self._watcher = stack.enter_context(watching(urls["observer"]))
        self._make_bank(urls["bank"])
        invitation, merchant_invitation = self._open_accounts()
        with self._step("bank_open", "The bank opens and announces its signed keyset"):
            stack.enter_context(running("bank", self.bank, "is open"))
            self._say(f"  Whoever has its address knows its key: {self._address}")
        self._show_traffic("keys")
        self._make_merchant(stack, urls["shop"], merchant_invitation)
        self._show_traffic("account", "catalog")
        self._make_wallet(invitation)

    def _show_traffic(self, *kinds: str) -> None:
        """Show what the broker saw of these kinds since it was last shown: of each, the first messages only."""
        shown, left_out = list[str](), Counter[str]()
        for kind, line in self._watcher.lines(*kinds):
            left_out[kind] += 1
            if left_out[kind] <= _SHOWN:
                shown.append(line)
        if shown:
            self._say("  [dim]What the broker sees:[/]")
        for line in shown:
            self._say(f"    {line}")
        more = [f"{count - _SHOWN} more of kind {kind}" for kind, count in left_out.items() if count > _SHOWN]
        if more:
            self._say(f"    [dim]… and {', '.join(more)}[/]")

    def _start_broker(self, stack: ExitStack) -> dict[str, BrokerUrl]:
        with self._step("broker", f"A broker starts ({self._engine})"):
            home = self._folder / "broker"
            if self._engine == "mosquitto":
                broker = stack.enter_context(mosquitto_broker(self._port, home))
                urls = {name: broker.log_in(name) for name in _LOGINS}
                self._say("  Bank and merchant log in; buyers stay anonymous; rights say who may read what.")
            else:
                url = stack.enter_context(embedded_broker(self._port, home))
                urls = dict.fromkeys(_LOGINS, url)
            self._say(f"  It listens at mqtt://127.0.0.1:{self._port}")
        return urls

    def _make_bank(self, url: BrokerUrl) -> None:
        with self._step("bank_made", "The bank makes its keys, one for each denomination"):
            options = ("--withdrawal-commission", "1%", "--deposit-commission", "0.5%", "--broker", str(url))
            command("bank", "init", "--home", str(self.bank), *options)
            self._address = command("bank", "address", "--home", str(self.bank)).stdout.strip()
            self._say("  Coins are worth 0.01, 0.02, 0.04 … 163.84 USD. Commission: 1% to withdraw, 0.5% to deposit.")

    def _open_accounts(self) -> tuple[str, str]:
        with self._step("accounts", "Alice and a record shop open accounts; Alice brings 50.00 in cash"):
            opened = ("open-account", "--home", str(self.bank), "--json")
            alice = command("bank", *opened, "alice", "--title", "Alice").last_json
            shop = command("bank", *opened, "shop", "--kind", "merchant", "--title", "Blue Note Records").last_json
            credit = ("credit", "--home", str(self.bank), str(alice["account"]), "50.00", "--reference", "cash #1")
            self._say("  " + command("bank", *credit).stdout.strip())
        return alice["invitation"], shop["invitation"]

    def _make_merchant(self, stack: ExitStack, url: BrokerUrl, invitation: str) -> None:
        with self._step("shop_open", "The shop opens, with a certificate from its bank"):
            made = ("init", "shop", "--home", str(self.shop), "--bank", self._address, "--broker", str(url))
            command("merchant", *made)
            options = ("--invitation", invitation, *self._shop_options())
            stack.enter_context(running("merchant", self.shop, "is open", *options))

    def _make_wallet(self, invitation: str) -> None:
        with self._step("wallet", "Alice makes a wallet and claims her account"):
            words = command("client", "init", "--home", str(self.wallet), "--json").last_json["words"]
            self._words = words
            self._say(f"  Twelve words bring it back: [dim]{words}[/]")
            register = ("register", self._address, "--invitation", invitation, "--home", str(self.wallet))
            self._say("  " + command("client", *register).stdout.strip())

    def _withdraw(self) -> None:
        with self._step("withdraw", "She withdraws 20.00: the bank signs coins that it cannot see"):
            self._say("  " + command("client", "withdraw", "20.00", "--home", str(self.wallet)).stdout.strip())
            shutil.copytree(self.wallet, self.copy)


class Purchase(Story):
    """Alice buys a song, and her coins are spent only once."""

    def _play(self, stack: ExitStack) -> None:
        self._withdraw()
        self._show_traffic("withdraw")
        self._purchase()
        self._show_traffic("order", "pay", "deposit")
        self._double_spend()

    def _purchase(self) -> None:
        with self._step("pay", "She buys a song for 12.34: order, payment request, payment, deposit, receipt"):
            paid = command("client", "pay", "shop", "song", "--yes", "--home", str(self.wallet))
            for line in paid.stdout.strip().splitlines():
                self._say(f"  {line}")
            sales = command("merchant", "sales", "--home", str(self.shop), "--json").last_json
            if [sale["state"] for sale in sales] != ["sold"]:
                raise StepFailed(f"the shop did not sell: {sales}")

    def _double_spend(self) -> None:
        with self._step("double_spend", "A copy of her wallet, made before, tries to spend the same coins again"):
            tried = command("client", "pay", "shop", "song", "--yes", "--home", str(self.copy), "--json", fails=True)
            outcome = tried.last_json
            if outcome["refusal"] != "already_spent":
                raise StepFailed(f"the coins were not refused as spent: {outcome}")
            told = command("client", "history", "--home", str(self.copy)).stdout
            if "refused" not in told:
                raise StepFailed(f"the copied wallet does not know: {told}")
            coins = outcome["coins_spent_before"]
            self._say(f"  Refused: {coins} coins were spent before, and the bank shows the signatures that spent them.")
            self._say("  " + outcome["told"].replace("\n", "\n  "))
