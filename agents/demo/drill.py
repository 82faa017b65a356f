"""The disaster drill: a wallet is lost in the middle of a purchase, and its owner gets every cent back."""

import shutil
from contextlib import ExitStack

from .processes import StepFailed, command
from .story import Story

_MOMENT = "wallet.pay.sent"
"""Where the wallet is killed: the payment is on its way, and no answer has come."""


class Drill(Story):
    """Alice withdraws, makes change, pays, and loses her wallet; twelve words bring the money back."""

    def _play(self, stack: ExitStack) -> None:
        self._withdraw()
        self._first_purchase()
        self._disaster()
        self._show_traffic("order", "pay", "deposit")
        self._restore()
        self._show_traffic("recover", "check", "fetch", "redeem")
        self._life_goes_on()

    def _first_purchase(self) -> None:
        with self._step("pay", "She buys a coffee for 2.50; some coins are change of others then"):
            paid = command("client", "pay", "shop", "coffee", "--yes", "--home", str(self.wallet))
            self._say("  " + paid.stdout.strip().replace("\n", "\n  "))

    def _disaster(self) -> None:
        with self._step("disaster", "She buys a song; the machine dies when the payment is sent, its disk is lost"):
            died = command(
                "client", "pay", "shop", "song", "--yes", "--home", str(self.wallet), fails=True, ECASH_CRASH_AT=_MOMENT
            )
            if died.code != -9:
                raise StepFailed(f"the wallet was not killed: {died.stderr.strip() or died.stdout.strip()}")
            shutil.rmtree(self.wallet)
            self._say("  kill -9, and the wallet's folder is gone. The twelve words are on paper.")

    def _restore(self) -> None:
        with self._step("restore", "On an empty machine, the twelve words bring the wallet back"):
            home = ("--home", str(self.wallet))
            restored = command("client", "restore", "--bank", self._address, "--yes", *home, ECASH_WORDS=self._words)
            for line in restored.stdout.strip().splitlines():
                self._say(f"  {line}")

    def _life_goes_on(self) -> None:
        with self._step("again", "She withdraws anew and buys another coffee"):
            for arguments in (("withdraw", "5.00"), ("pay", "shop", "coffee", "--yes")):
                done = command("client", *arguments, "--home", str(self.wallet))
                self._say("  " + done.stdout.strip().replace("\n", "\n  "))
