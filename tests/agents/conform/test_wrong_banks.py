"""A bank that breaks one rule is caught by the case that is there for it: a suite must be able to fail."""

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agents.address import BankAddress
from agents.bank import agent as bank_agent
from agents.bank.agent import BankAgent
from agents.bank.desks import desk as desks
from agents.bank.sqlite import SqliteBooks
from agents.conform import voice
from agents.conform.bank.cases import bank_suite
from agents.conform.bank.visit import visiting
from agents.conform.case import Notes
from agents.conform.played import beside
from agents.conform.runner import Outcome, run_cases
from agents.invitation import hash_invitation
from agents.world import SystemClock, SystemEntropy
from broker.address import BrokerUrl
from broker.mqtt import MqttLink
from protocol.answer import Answer, seal_answer
from protocol.bank import coins, proof
from protocol.bank.ledger import Conflict, Repeated
from protocol.envelope import EnvelopePrivateKey, Letter
from protocol.errors import PeerError
from protocol.keyset import fingerprint
from protocol.messages import Parcel
from protocol.refusals import Refusal
from tests.agents.world import BANK, mint

CLIENT, MERCHANT = bytes(15) + b"c", bytes(15) + b"m"


@contextlib.asynccontextmanager
async def open_bank(url: BrokerUrl, folder: Path) -> AsyncIterator[BankAddress]:
    """Our bank, with whatever is patched in it, and two accounts to be claimed."""
    clock, entropy, made = SystemClock(), SystemEntropy(), mint()
    async with SqliteBooks(folder / "books.db", clock.now) as books:
        await books.add_keyset(0, made.announcement)
        account = await books.open_account("client", "client", "C", "USD", b"", hash_invitation(CLIENT))
        await books.credit(account.number, 500, "cash")
        await books.open_account("merchant", "merchant", "M", "USD", b"", hash_invitation(MERCHANT))
        agent = BankAgent(made.keyset, made.announcement, made.keys, books, made.signer, clock)
        async with MqttLink(url, f"{BANK}-{entropy.bytes(8).hex()}", persistent=False) as link, beside(agent.run(link)):
            await agent.ready.wait()
            yield BankAddress(BANK, url, fingerprint(made.keyset.identity))


async def outcomes(url: BrokerUrl, folder: Path, *only: str) -> dict[str, Outcome]:
    notes = Notes()
    async with (
        open_bank(url, folder) as address,
        visiting(address, (CLIENT, MERCHANT), notes, SystemClock(), SystemEntropy()) as visit,
    ):
        found = await run_cases(bank_suite().chosen(only), visit, notes)
    return {result.case.id: result.outcome for result in found}


# ---------------------------------------------------------------- what is broken


def nothing(*_: Any, **__: Any) -> None:
    """Check nothing."""


def forget(self: desks.Desk, request: desks.Request, known: Repeated | Conflict) -> bytes:
    """Refuse what was answered before, as if it were another request."""
    return self.seal(request, Answer(self.clock.now(), Refusal.REQUEST_ID_REUSED.value, "", b""))


async def the_first_answer(self: SqliteBooks, request_id: bytes, request_hash: bytes) -> Repeated | None:
    """Give the answer to the first request under an id to every other one, too."""
    row = await self.fetch(request_id)
    return Repeated(row.answer) if row else None


def seal_with_another_key(self: desks.Desk, request: desks.Request, answer: Answer) -> bytes:
    """Sign answers with a key that is not the bank's."""
    letter = request.letter
    return seal_answer(bytes(32), letter.answer_key, letter.request_id, request.hashed, answer)


def open_any_letter(key: EnvelopePrivateKey, envelope: bytes, kind: str) -> Letter:
    """Take letters whose signature is wrong."""
    letter, _ = msgspec.msgpack.decode(key.open(envelope, kind))
    return Letter.decode(letter)


async def refuse_without_storing(
    self: desks.Desk, request: desks.Request, error: PeerError, body: bytes = b"", *, lasting: bool = False
) -> bytes:
    """Refuse, each time in other words, and forget it: the next copy is decided anew."""
    words = SystemEntropy().bytes(8).hex()
    return self.seal(request, Answer(self.clock.now(), error.refusal.value, words, body))


Break = Callable[[pytest.MonkeyPatch], None]
WRONG: dict[str, Break] = {
    "account.twice": lambda patch: patch.setattr(desks.Desk, "said_before", forget),
    "account.look": lambda patch: patch.setattr(desks.Desk, "seal", seal_with_another_key),
    "account.id": lambda patch: patch.setattr(SqliteBooks, "stored_answer", the_first_answer),
    "drop.signature": lambda patch: patch.setattr(bank_agent, "open_letter", open_any_letter),
    "withdraw.hostile": lambda patch: patch.setattr(coins, "check_blinded", nothing),
    "deposit.forged": lambda patch: patch.setattr(coins, "check_coin", nothing),
    "deposit.unsigned": lambda patch: patch.setattr(coins, "check_spend", nothing),
    "deposit.doubled": lambda patch: patch.setattr(coins, "check_distinct", nothing),
    "deposit.substitute": lambda patch: patch.setattr(Parcel, "commitment", property(_whatever_is_asked)),
    "exchange.amount": lambda patch: patch.setattr(desks.Desk, "refuse", refuse_without_storing),
    "proof.wrong": lambda patch: patch.setattr(proof, "proves", lambda *_: True),
}


class _Anything(bytes):
    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = bytes.__hash__


def _whatever_is_asked(self: Parcel) -> bytes:
    return _Anything(32)


@pytest.mark.parametrize("case", WRONG)
async def test_a_bank_that_breaks_a_rule_is_caught(
    case: str, embedded_url: BrokerUrl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    WRONG[case](monkeypatch)
    monkeypatch.setattr(voice, "QUIET_S", 2.0)  # what is wrong may come late
    assert await outcomes(embedded_url, tmp_path, case) == {case: Outcome.FAILED}


async def test_a_bank_that_breaks_no_rule_passes_the_same_cases(embedded_url: BrokerUrl, tmp_path: Path) -> None:
    assert await outcomes(embedded_url, tmp_path, *WRONG) == dict.fromkeys(
        [case.id for case in bank_suite().chosen(WRONG)], Outcome.PASSED
    )
