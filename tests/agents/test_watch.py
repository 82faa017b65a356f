"""`ecash audit`: what a bank announces of its e-cash, checked by somebody who has no account."""

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from agents.address import BankAddress
from agents.bank.home import sign_keyset
from agents.cli import app
from agents.requester import NobodyAnswers, Requester
from agents.watch import Audited, Seen, look, read_memory, write_memory
from broker.address import BrokerUrl
from broker.mqtt import MqttLink
from broker.port import Outgoing
from protocol import topics
from protocol.errors import PeerError
from protocol.keyset import Keyset, fingerprint
from protocol.messages import Signed
from protocol.refusals import Refusal
from protocol.signatures import Domain
from protocol.totals import DenominationTotal, Totals
from tests.agents.world import BANK, START, mint
from tests.simulation.network import Network
from tests.world import altered

KEYSET, SEED = mint().keyset, mint().keys.identity
ADDRESS = BankAddress(BANK, BrokerUrl("127.0.0.1", 1883), fingerprint(KEYSET.identity))
ONE, TWO = (one.id for one in KEYSET.denominations[:2])


def next_of(keyset: Keyset, **changes: Any) -> Keyset:
    chain = (*keyset.chain, keyset.hash)
    return msgspec.structs.replace(keyset, number=keyset.number + 1, chain=chain, **changes)


def totals(journal: int, *counts: tuple[bytes, int, int], keyset: Keyset = KEYSET) -> Totals:
    return Totals(BANK, keyset.hash, journal, START, tuple(DenominationTotal(*one) for one in counts))


def signed(statement: Totals) -> bytes:
    return Signed.make(SEED, Domain.TOTALS, statement).encode()


class Bank:
    """What is announced in the bank's name."""

    def __init__(self, network: Network) -> None:
        self.network = network

    def announce(self, keyset: Keyset, data: bytes) -> None:
        self.network.inject(topics.keys(BANK), sign_keyset(SEED, keyset), retain=True)
        self.network.inject(topics.totals(BANK), data, retain=True)

    async def look(self, before: Seen | None = None) -> Audited:
        return await look(ADDRESS, self.network.link("anybody", persistent=False), before)

    async def refusal(self, before: Seen | None = None) -> Refusal:
        with pytest.raises(PeerError) as caught:
            await self.look(before)
        return caught.value.refusal


@pytest.fixture
def bank(network: Network) -> Bank:
    return Bank(network)


@pytest.fixture
async def seen(bank: Bank) -> Seen:
    """What was seen when keyset 1 was announced, and ten coins were out."""
    bank.announce(next_of(KEYSET), signed(totals(5, (ONE, 10, 3), keyset=next_of(KEYSET))))
    return (await bank.look()).seen


async def test_totals_are_checked_against_the_keyset(bank: Bank) -> None:
    bank.announce(KEYSET, signed(totals(5, (ONE, 10, 3), (TWO, 4, 4))))
    audited = await bank.look()
    assert (audited.keyset, audited.totals.journal) == (KEYSET, 5)
    bank.announce(next_of(KEYSET), signed(totals(5, (ONE, 10, 3))))
    assert (await bank.look()).keyset.number == 1


@pytest.mark.parametrize("field", Signed.__struct_fields__)
async def test_totals_that_were_altered_on_the_way_are_refused(bank: Bank, field: str) -> None:
    statement = Signed.make(SEED, Domain.TOTALS, totals(5, (ONE, 10, 3)))
    forged = msgspec.structs.replace(statement, **{field: altered(getattr(statement, field))})
    bank.announce(KEYSET, forged.encode())
    assert await bank.refusal() is Refusal.BAD_SIGNATURE


async def test_more_coins_than_went_out_are_refused(bank: Bank) -> None:
    bank.announce(KEYSET, signed(totals(5, (ONE, 10, 11))))
    assert await bank.refusal() is Refusal.AMOUNT_MISMATCH


async def test_a_keyset_of_another_bank_is_refused(bank: Bank) -> None:
    bank.announce(msgspec.structs.replace(KEYSET, identity=bytes(32)), signed(totals(5)))
    assert await bank.refusal() is Refusal.WRONG_BANK


async def test_what_is_not_announced_is_waited_for_in_vain(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Requester.retained, "__defaults__", (0.01,))
    with pytest.raises(NobodyAnswers, match="nothing is announced"):
        await bank.look()


# ---------------------------------------------------------------- memory


async def test_growth_is_what_was_seen_and_more(bank: Bank, seen: Seen) -> None:
    bank.announce(next_of(next_of(KEYSET)), signed(totals(6, (ONE, 11, 4), keyset=next_of(KEYSET))))
    audited = await bank.look(seen)
    assert (audited.keyset.number, audited.totals.journal) == (2, 6)


@pytest.mark.parametrize("counts", [(4, 10, 3), (6, 9, 3), (6, 10, 2), (5, 11, 3)])
async def test_totals_that_went_back_are_refused(bank: Bank, seen: Seen, counts: tuple[int, int, int]) -> None:
    journal, minted, spent = counts
    bank.announce(next_of(KEYSET), signed(totals(journal, (ONE, minted, spent))))
    assert await bank.refusal(seen) is Refusal.AMOUNT_MISMATCH


async def test_a_keyset_that_was_forked_or_rolled_back_is_refused(bank: Bank, seen: Seen) -> None:
    later = signed(totals(6, (ONE, 10, 3)))
    for lie in (KEYSET, next_of(KEYSET, issued_at=START + 1), next_of(next_of(KEYSET, issued_at=START + 1))):
        bank.announce(lie, later)
        assert await bank.refusal(seen) is Refusal.FOREIGN_KEYSET


async def test_a_memory_is_kept_in_a_file(seen: Seen, tmp_path: Path) -> None:
    file = tmp_path / "seen.bank"
    assert read_memory(file, ADDRESS) is None
    write_memory(file, seen)
    assert read_memory(file, ADDRESS) == seen
    with pytest.raises(ValueError, match="about another bank"):
        read_memory(file, ADDRESS._replace(bank="south"))
    with pytest.raises(ValueError, match="cannot be read"):
        read_memory(tmp_path, ADDRESS)
    with pytest.raises(ValueError, match="cannot be written"):
        write_memory(file / "below a file", seen)


@pytest.mark.parametrize("data", [b"", b"hello", msgspec.msgpack.encode(Seen(b"x", b"y")), b"\x91" * 100_000])
def test_a_file_that_is_no_memory_is_told(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "seen.bank").write_bytes(data)
    with pytest.raises(ValueError, match="is not what an audit remembered"):
        read_memory(tmp_path / "seen.bank", ADDRESS)


# ---------------------------------------------------------------- the command, at a real broker


async def test_the_audit_is_typed(embedded_url: BrokerUrl, tmp_path: Path) -> None:
    memory = tmp_path / "seen.bank"
    words = ["audit", "--bank", str(ADDRESS._replace(broker=embedded_url)), "--memory", str(memory)]

    async def type_in(*more: str) -> tuple[int, str, str]:
        result = await asyncio.to_thread(CliRunner().invoke, app, [*words, *more])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, result.stdout, result.stderr

    async with MqttLink(embedded_url, "north-presence", persistent=False) as link:
        await link.announce(Outgoing(topics.keys(BANK), mint().announcement, retain=True))
        await link.announce(Outgoing(topics.totals(BANK), signed(totals(5, (ONE, 10, 3))), retain=True))
        code, said, _ = await type_in()
        assert code == 0
        assert "0.07 USD outstanding: 0.10 USD minted, 0.03 USD came back" in said
        code, said, _ = await type_in("--json")
        told = json.loads(said)
        assert (code, told["ok"], told["compared"]) == (0, True, True)
        assert told["totals"] == {"USD": {"minted": 10, "deposited": 3, "outstanding": 7}}
        kept = memory.read_bytes()
        await link.announce(Outgoing(topics.totals(BANK), signed(totals(6, (ONE, 9, 3))), retain=True))
        code, said, complained = await type_in()
        assert (code, said) == (1, "")
        assert "the totals have become less" in complained
        assert memory.read_bytes() == kept
        for topic in (topics.keys(BANK), topics.totals(BANK)):
            await link.publish(Outgoing(topic, b"", retain=True))
