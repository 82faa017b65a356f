import msgspec
import pytest

from agents.address import BankAddress
from agents.bank.home import sign_keyset
from agents.client.wallet import Wallet, WalletError
from agents.invitation import hash_invitation
from agents.requester import NobodyAnswers
from protocol import topics
from protocol.errors import PeerError
from protocol.keyset import Keyset
from protocol.refusals import Refusal
from tests.agents.world import BANK, Town
from tests.simulation.network import Network


async def refresh(town: Town, network: Network, wallet: Wallet, keyset: Keyset, identity: bytes = b"") -> Keyset:
    """Let the wallet see this keyset announced."""
    announcement = sign_keyset(identity or town.mint.keys.identity, keyset)
    network.inject(topics.keys(BANK), announcement, retain=True)
    async with wallet.presence(town.address.broker) as requester:
        return (await wallet.refresh(town.address, requester)).keyset


def successor(keyset: Keyset, **changes: object) -> Keyset:
    chain = (*keyset.chain, keyset.hash)
    return msgspec.structs.replace(keyset, number=keyset.number + 1, chain=chain, **changes)


async def test_registering_claims_the_account_and_tells_of_it(town: Town) -> None:
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 70)
        told = await alice.register(town.address, b"")
        assert (told.kind, told.name, told.balance) == ("client", "Alice", 70)
    async with town.open_wallet("alice") as alice:
        assert (alice.bank().row.account, alice.bank(BANK).row.currency) == (told.account, "USD")


async def test_an_invitation_is_used_once(town: Town) -> None:
    await town.books.open_account("client", "bob", "Bob", "USD", b"", hash_invitation(b"b" * 16))
    async with town.open_wallet("bob") as bob, town.open_wallet("eve") as eve:
        await bob.register(town.address, b"b" * 16)
        with pytest.raises(PeerError) as caught:
            await eve.register(town.address, b"b" * 16)
        assert caught.value.refusal is Refusal.INVALID_INVITATION


async def test_a_claim_whose_answer_was_lost_is_had_again_without_a_take_over(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(row: object) -> None:
        raise NobodyAnswers("the machine went down here")

    await town.books.open_account("client", "bob", "Bob", "USD", b"", hash_invitation(b"b" * 16))
    async with town.open_wallet("bob") as bob:
        async with bob.presence(town.address.broker) as requester:
            await bob.refresh(town.address, requester)
        with monkeypatch.context() as patch:
            patch.setattr(bob.store, "save_bank", lost)
            with pytest.raises(NobodyAnswers):
                await bob.register(town.address, b"b" * 16)
        assert (await bob.register(town.address, b"b" * 16)).generation == 1
        assert (bob.bank().row.account, bob.bank().row.generation) == (1002, 1)


async def test_a_claim_that_was_refused_is_written_anew(town: Town) -> None:
    async with town.open_wallet("bob") as bob:
        with pytest.raises(PeerError, match="invitation"):
            await bob.register(town.address, b"b" * 16)
        await town.books.open_account("client", "bob", "Bob", "USD", b"", hash_invitation(b"b" * 16))
        assert (await bob.register(town.address, b"b" * 16)).generation == 1


async def test_a_bank_must_be_known_or_named(town: Town) -> None:
    async with town.open_wallet("alice") as alice:
        with pytest.raises(WalletError, match="register"):
            alice.bank()
        with pytest.raises(WalletError, match="south"):
            alice.bank("south")


async def test_a_bank_with_another_fingerprint_is_refused(town: Town) -> None:
    forged = BankAddress(BANK, town.address.broker, "0" * 64)
    async with town.open_wallet("alice") as alice:
        with pytest.raises(PeerError) as caught:
            await alice.register(forged, b"")
        assert caught.value.refusal is Refusal.WRONG_BANK


async def test_a_keyset_that_another_key_signed_is_refused(town: Town, network: Network) -> None:
    async with town.open_wallet("alice") as alice:
        with pytest.raises(PeerError) as caught:
            await refresh(town, network, alice, town.keyset, identity=bytes(32))
        assert caught.value.refusal is Refusal.BAD_SIGNATURE


async def test_a_new_keyset_is_merged_and_a_rolled_back_one_is_refused_loudly(town: Town, network: Network) -> None:
    newer = successor(town.keyset)
    async with town.open_wallet("alice") as alice:
        await refresh(town, network, alice, town.keyset)
        assert await refresh(town, network, alice, newer) == newer
    async with town.open_wallet("alice") as alice:
        with pytest.raises(PeerError, match="rolled back"):
            await refresh(town, network, alice, town.keyset)
        assert alice.bank().keyset == newer


async def test_a_forked_keyset_is_refused_loudly(town: Town, network: Network) -> None:
    fork = msgspec.structs.replace(town.keyset, issued_at=town.keyset.issued_at + 1)
    async with town.open_wallet("alice") as alice:
        await refresh(town, network, alice, town.keyset)
        for forked in (fork, successor(fork)):
            with pytest.raises(PeerError, match="forked"):
                await refresh(town, network, alice, forked)
        withdrawn = successor(town.keyset, denominations=town.keyset.denominations[1:])
        with pytest.raises(PeerError, match="withdrawn"):
            await refresh(town, network, alice, withdrawn)
        assert alice.bank().keyset == town.keyset


async def test_without_a_bank_the_wallet_says_so(founded: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agents.requester.Requester.retained.__defaults__", (0.0,))
    async with founded.open_wallet("alice") as alice:
        with pytest.raises(NobodyAnswers, match="is the agent running"):
            await alice.register(founded.address, b"")
