"""Somebody puts other keys in the place of a bank's or a merchant's, or shows different keys to different people."""

import hashlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from agents.address import BankAddress
from agents.bank.home import sign_keyset
from agents.client.wallet import Wallet
from broker.port import Outgoing
from protocol import topics
from protocol.envelope import EnvelopePrivateKey, Suite
from protocol.errors import PeerError
from protocol.keyset import Keyset, SignedKeyset
from protocol.messages import Catalog, Certificate, Signed
from protocol.refusals import Refusal
from protocol.signatures import Domain, public_key
from protocol.wallet import payment
from tests.agents.world import BANK, SHOP, Town
from tests.simulation.network import Network
from tests.world import altered, seed

THIEF = seed("the thief's identity")
ENVELOPE = EnvelopePrivateKey(Suite.X25519, seed("the thief's envelope key")).public


def forged_keysets(town: Town) -> dict[str, bytes]:
    """What somebody without the bank's key can announce."""
    signed = SignedKeyset.decode(town.mint.announcement)
    own = msgspec.structs.replace(town.keyset, identity=public_key(THIEF), envelope_keys=(ENVELOPE,))
    sealed_for_thief = msgspec.structs.replace(town.keyset, envelope_keys=(ENVELOPE,))
    parts = Keyset.__struct_fields__
    return {
        "of the thief's own": sign_keyset(THIEF, own),
        "for the thief's envelope key, signed by the thief": sign_keyset(THIEF, sealed_for_thief),
        "for the thief's envelope key, under the old signature": SignedKeyset(
            sealed_for_thief.encode(), signed.signature
        ).encode(),
        "without a signature": SignedKeyset(signed.keyset, bytes(64)).encode(),
        **{f"with another {part}": with_another(town, part, signed.signature) for part in parts if part != "version"},
    }


def with_another(town: Town, part: str, signature: bytes) -> bytes:
    value = getattr(town.keyset, part)
    changed = (*value, seed("one more")) if part in {"chain", "revoked"} else altered(value)
    return SignedKeyset(msgspec.structs.replace(town.keyset, **{part: changed}).encode(), signature).encode()


async def refusal_of(town: Town, wallet: Wallet, address: BankAddress | None = None) -> Refusal:
    with pytest.raises(PeerError) as caught:
        async with wallet.presence(town.address.broker) as requester:
            await wallet.refresh(address or town.address, requester)
    return caught.value.refusal


async def test_no_keyset_that_the_pinned_bank_has_not_signed_is_taken(town: Town, network: Network) -> None:
    forged = forged_keysets(town)
    assert len(forged) >= 13
    async with town.open_wallet("new") as new, town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        for what, announcement in forged.items():
            network.inject(topics.keys(BANK), announcement, retain=True)
            for wallet in (new, alice):
                refusal = await refusal_of(town, wallet)
                assert refusal in {Refusal.BAD_SIGNATURE, Refusal.WRONG_BANK, Refusal.MALFORMED}, what
        assert alice.bank().keyset == town.keyset
        assert new.banks == []


async def test_any_byte_of_a_keyset_altered_on_the_way_is_noticed(town: Town, network: Network) -> None:
    true = town.mint.announcement
    async with town.open_wallet("new") as new:
        for place in range(0, len(true), 23):
            forged = true[:place] + bytes([true[place] ^ 1]) + true[place + 1 :]
            network.inject(topics.keys(BANK), forged, retain=True)
            assert await refusal_of(town, new)
        network.inject(topics.keys(BANK), true, retain=True)
        async with new.presence(town.address.broker) as requester:
            assert (await new.refresh(town.address, requester)).keyset == town.keyset


@pytest.mark.parametrize("name", [BANK, "south"])
async def test_an_address_with_another_name_or_fingerprint_leads_to_no_bank(
    town: Town, network: Network, name: str
) -> None:
    network.inject(topics.keys("south"), town.mint.announcement, retain=True)
    fingerprint = town.address.fingerprint if name == "south" else hashlib.sha256(b"another").hexdigest()
    async with town.open_wallet("new") as new:
        address = BankAddress(name, town.address.broker, fingerprint)
        assert await refusal_of(town, new, address) is Refusal.WRONG_BANK


# ---------------------------------------------------------------- the merchant's keys


def thieves(catalog: Catalog, town: Town) -> dict[str, Signed]:
    """Catalogues by which a thief would be paid, or would read what buyers write."""
    certificate = Certificate.decode(Signed.decode(catalog.certificates[0]).statement)
    of_thief = msgspec.structs.replace(certificate, key=public_key(THIEF))
    self_made = Signed.make(THIEF, Domain.CERTIFICATE, of_thief).encode()
    renamed = Signed(of_thief.encode(), Signed.decode(catalog.certificates[0]).signature).encode()
    change: Callable[..., Catalog] = lambda **parts: msgspec.structs.replace(catalog, **parts)  # noqa: E731
    key = public_key(THIEF)
    return {
        "another envelope key, under the old signature": Signed(
            change(envelope_key=ENVELOPE).encode(), Signed.make(THIEF, Domain.CATALOG, catalog).signature
        ),
        "the thief's key under the merchant's certificate": Signed.make(THIEF, Domain.CATALOG, change(key=key)),
        "a certificate that the thief has made": Signed.make(
            THIEF, Domain.CATALOG, change(key=key, certificates=(self_made,))
        ),
        "a certificate with the thief's key in it": Signed.make(
            THIEF, Domain.CATALOG, change(key=key, certificates=(renamed,))
        ),
        "no certificate": Signed.make(THIEF, Domain.CATALOG, change(key=key, certificates=())),
        "a statement of another kind": Signed.make(town.shop.desk.keys.identity, Domain.RECEIPT, catalog),
    }


async def test_nobody_is_paid_in_the_place_of_a_merchant(town: Town, network: Network) -> None:
    true = network.heard(topics.catalog(SHOP))[-1].payload
    catalog = Catalog.decode(Signed.decode(true).statement)
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        for what, forged in thieves(catalog, town).items():
            network.inject(topics.catalog(SHOP), forged.encode(), retain=True)
            with pytest.raises(PeerError) as caught:
                await town.buy(alice)
            assert caught.value.refusal in {Refusal.BAD_SIGNATURE, Refusal.WRONG_MERCHANT, Refusal.WRONG_BANK}, what
        assert await alice.store.exchanges() == []
        network.inject(topics.catalog(SHOP), true, retain=True)
        assert isinstance((await town.buy(alice)).state, payment.Paid)


# ---------------------------------------------------------------- split views


async def test_a_wallet_to_which_the_bank_shows_other_keys_pays_nobody_who_sees_the_true_ones(
    town: Town, network: Network
) -> None:
    """A bank that makes a keyset for one client alone would know its coins: the merchant's offer names another one."""
    special = msgspec.structs.replace(town.keyset, issued_at=town.keyset.issued_at + 1)
    async with town.open_wallet("marked") as marked:
        network._retained[topics.keys(BANK)] = sign_keyset(town.mint.keys.identity, special)
        await town.customer(marked, "marked", 100)
        assert marked.bank().keyset == special
        with pytest.raises(PeerError) as caught:
            await town.buy(marked)
        assert caught.value.refusal is Refusal.FOREIGN_KEYSET
        assert [row for row in await marked.store.exchanges() if row.kind == "pay"] == []
        network._retained[topics.keys(BANK)] = town.mint.announcement
        assert await refusal_of(town, marked) is Refusal.FOREIGN_KEYSET, "nor does it ever forget what it was shown"
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        assert isinstance((await town.buy(alice)).state, payment.Paid)


async def test_a_status_that_somebody_else_has_announced_decides_nothing(town: Town, network: Network) -> None:
    for topic in (topics.status(BANK), topics.status(SHOP)):
        for lie in (b"", b"closed", bytes(1000), altered_status(network, topic)):
            network.publish(Outgoing(topic, lie, retain=True))
    async with town.open_wallet("alice") as alice:
        await town.customer(alice, "alice", 100)
        assert isinstance((await town.buy(alice)).state, payment.Paid)


def altered_status(network: Network, topic: str) -> Any:
    """The same, with other bits."""
    true = network.heard(topic)[0].payload
    return bytes(byte ^ 1 for byte in true)
