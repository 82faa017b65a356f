"""Proofs of payments that wallets have made, from the bank's desk to the file."""

from pathlib import Path

import msgspec
import pytest

from agents import proof as files
from agents.client import pay as paying
from agents.client.cli.proof import _shown
from agents.client.prove import prove, secrets_of
from agents.client.store import ExchangeRow
from agents.client.wallet import Wallet, WalletError
from broker.port import Outgoing
from protocol.errors import PeerError
from protocol.messages import OrderLine
from protocol.proof import PROOF, ProofRequest
from protocol.refusals import Refusal
from protocol.wallet import payment
from tests.agents.world import SHOP, Town, cash
from tests.simulation.clock import HOUR_MS, VirtualClock
from tests.simulation.network import Network


async def bought(town: Town, wallet: Wallet, code: str = "") -> ExchangeRow:
    """A novel and a postcard, paid."""
    if not wallet.banks:
        await town.customer(wallet, "alice", 100)
    await cash(wallet, 18)
    async with wallet.presence(town.address.broker) as requester:
        quote = await paying.order(
            wallet, wallet.bank(), SHOP, [OrderLine("novel", 1), OrderLine("card", 1)], requester
        )
        row = await paying.pay(wallet, quote, requester, code=code)
    assert isinstance(row.state, payment.Paid)
    return row


async def refusal(wallet: Wallet, payment_id: bytes, salt: bytes, code: str) -> str:
    return (await wallet.ask_anonymously(wallet.bank(), PROOF, ProofRequest(payment_id, salt, code))).refusal


@pytest.mark.parametrize("code", ["Bluesky", ""])
async def test_a_payment_is_proven_with_a_chosen_code_and_with_a_generated_one(
    town: Town, tmp_path: Path, code: str
) -> None:
    async with town.open_wallet("alice") as wallet:
        row = await bought(town, wallet, code)
        secrets = secrets_of(wallet, row)
        assert secrets.code == (code or wallet.root.payer_code(row.id))
        assert code.encode() not in row.note.code or not code
        proof = await prove(wallet, row, {0, 1})
        files.write_proof(tmp_path / "proof.json", proof)
        checked = files.check_proof(files.read_proof(tmp_path / "proof.json"), town.address)
    assert (checked.info.payment_id, checked.info.amount, checked.pinned) == (secrets.payment_id, 18, True)
    assert checked.code == secrets.code
    assert checked.order == row.note.order
    assert any("novel" in line for line in checked.order if line)


async def test_lines_that_are_not_shown_stay_hidden(town: Town) -> None:
    async with town.open_wallet("alice") as wallet:
        row = await bought(town, wallet)
        for shown in (set[int](), {0}, {1}):
            proof = await prove(wallet, row, shown)
            kept = [line for index, line in enumerate(row.note.order) if index not in shown]
            assert not any(line in msgspec.json.encode(proof).decode() for line in kept)
            assert [line is not None for line in files.check_proof(proof).order] == [
                index in shown for index in range(len(row.note.order))
            ]


async def test_nobody_else_proves_a_payment(town: Town) -> None:
    async with town.open_wallet("alice") as wallet:
        first, second = await bought(town, wallet, "Bluesky"), await bought(town, wallet, "Bluesky")
        mine, other = secrets_of(wallet, first), secrets_of(wallet, second)
        assert mine.salt != other.salt
        assert not await refusal(wallet, mine.payment_id, mine.salt, "Bluesky")
        assert await refusal(wallet, mine.payment_id, mine.salt, "bluesky") == Refusal.NOT_PROVEN
        assert await refusal(wallet, mine.payment_id, bytes(16), "Bluesky") == Refusal.NOT_PROVEN
        assert await refusal(wallet, other.payment_id, mine.salt, "Bluesky") == Refusal.NOT_PROVEN
        anothers = first._replace(note=msgspec.structs.replace(first.note, info=second.note.info))
        with pytest.raises(PeerError) as caught:
            await prove(wallet, anothers, ())
        assert caught.value.refusal is Refusal.NOT_PROVEN


async def test_the_statement_must_be_about_the_payment_that_was_made(town: Town) -> None:
    async with town.open_wallet("alice") as wallet:
        row = await bought(town, wallet)
        info = msgspec.msgpack.decode(row.note.info)
        info[1] += 1
        note = msgspec.structs.replace(row.note, info=msgspec.msgpack.encode(info))
        with pytest.raises(PeerError) as caught:
            await prove(wallet, row._replace(note=note), ())
        assert caught.value.refusal is Refusal.PAYMENT_ALTERED


async def test_a_payment_that_came_to_nothing_is_not_proven(town: Town, network: Network, clock: VirtualClock) -> None:
    def to_shop(message: Outgoing) -> bool:
        return message.topic.startswith(f"ecash/v1/{SHOP}/pay/")

    async with town.open_wallet("alice") as wallet:
        await town.customer(wallet, "alice", 100)
        await cash(wallet, 13)
        async with wallet.presence(town.address.broker) as requester:
            quote = await town.order(wallet, requester)
            network.loses = to_shop
            row = await paying.pay(wallet, quote, requester, patience_ms=0)
        clock.advance(HOUR_MS)
        assert secrets_of(wallet, row).payment_id == quote.payreq.payment_id
        with pytest.raises(PeerError) as caught:
            await prove(wallet, row, ())
        assert caught.value.refusal is Refusal.NOT_PROVEN


async def test_only_a_payment_can_be_proven(town: Town) -> None:
    async with town.open_wallet("alice") as wallet:
        await town.customer(wallet, "alice", 100)
        row = await cash(wallet, 2)
        with pytest.raises(WalletError, match="is no payment"):
            secrets_of(wallet, row)


async def test_lines_are_chosen_by_their_numbers(town: Town) -> None:
    async with town.open_wallet("alice") as wallet:
        row = await bought(town, wallet)
    count = len(row.note.order)
    assert [_shown(lines, row) for lines in ("all", "none", "2", "1,2")] == [set(range(count)), set(), {1}, {0, 1}]
    for wrong in ("", "0", str(count + 1), "one", "1-2"):
        with pytest.raises(ValueError, match="numbers from 1"):
            _shown(wrong, row)
