import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import pytest
from nacl.bindings import (
    crypto_core_ed25519_add,
    crypto_core_ed25519_scalar_add,
    crypto_core_ed25519_scalar_mul,
    crypto_core_ed25519_scalar_reduce,
    crypto_scalarmult_ed25519_base_noclamp,
)

from protocol.blind_rsa import PublicKey, WeakKey
from protocol.errors import PeerError
from protocol.keyset import (
    Denomination,
    KeyRing,
    Keyset,
    SignedKeyset,
    Tariff,
    check_successor,
    fingerprint,
    open_keyset,
    read_keyset,
)
from protocol.refusals import Refusal
from protocol.signatures import Domain, public_key, sign, verify
from tests.world import BANK, DAY, NOW, World, alter, altered, denomination, rsa_key, seed
from tests.world import world as make_world

CENTS = make_world().keyset.denominations[0]


def changed(struct: Any, **fields: Any) -> Any:
    return msgspec.structs.replace(struct, **fields)


def announce(world: World, **fields: Any) -> bytes:
    return SignedKeyset.sign(world.identity_seed, changed(world.keyset, **fields)).encode()


def refusal_of(world: World, data: bytes, bank: str = BANK, pinned: str | None = None) -> Refusal:
    with pytest.raises(PeerError) as caught:
        open_keyset(bank, fingerprint(world.identity) if pinned is None else pinned, data)
    return caught.value.refusal


# ---------------------------------------------------------------- denominations


def test_a_denomination_id_depends_on_every_field() -> None:
    ids = {CENTS.id, *(alter(CENTS, field).id for field in Denomination.__struct_fields__)}
    assert len(ids) == 1 + len(Denomination.__struct_fields__)


@pytest.mark.parametrize(
    "dates",
    [(2, 1, 3, 4), (1, 1, 2, 3), (1, 3, 2, 4), (1, 2, 4, 3), (4, 3, 2, 1)],
    ids=str,
)
def test_dates_out_of_order_are_refused(dates: tuple[int, int, int, int]) -> None:
    mint_from, mint_until, spend_until, redeem_until = dates
    wrong = changed(
        CENTS, mint_from=mint_from, mint_until=mint_until, spend_until=spend_until, redeem_until=redeem_until
    )
    with pytest.raises(PeerError) as caught:
        wrong.check()
    assert caught.value.refusal is Refusal.UNKNOWN_DENOMINATION


def test_dates_may_coincide_but_for_the_first_two() -> None:
    changed(CENTS, mint_from=1, mint_until=2, spend_until=2, redeem_until=2).check()


def weak_keys() -> dict[str, bytes]:
    numbers = rsa_key("USD 100").private_numbers()
    return {
        "no key": b"x",
        "a key of half the size": PublicKey(numbers.p * 3 | 1, 65537).to_der(),
        "another exponent": PublicKey(numbers.public_numbers.n, 3).to_der(),
    }


@pytest.mark.parametrize("name", weak_keys())
def test_a_weak_key_is_refused_wherever_it_is_announced(world: World, name: str) -> None:
    weak = changed(CENTS, public_key=weak_keys()[name])
    with pytest.raises(WeakKey):
        weak.check()
    assert refusal_of(world, announce(world, denominations=(weak,))) is Refusal.UNKNOWN_DENOMINATION


# ---------------------------------------------------------------- opening


def test_an_announced_keyset_opens_with_the_pinned_fingerprint(world: World) -> None:
    opened = open_keyset(BANK, fingerprint(world.identity), announce(world))
    assert opened == world.keyset
    assert opened.hash == hashlib.sha256(b"ecash/v1 keyset\0" + opened.encode()).digest()
    assert opened.envelope_key == world.bank_envelope.public


def test_the_fingerprint_is_sha_256_of_the_identity_key(world: World) -> None:
    assert fingerprint(world.identity) == hashlib.sha256(world.identity).hexdigest()


def test_denominations_that_were_checked_before_are_not_checked_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bytes] = []
    monkeypatch.setattr(Denomination, "check", lambda self: seen.append(self.id))
    ids = [one.id for one in world.keyset.denominations]
    open_keyset(BANK, fingerprint(world.identity), announce(world), checked=ids[1:])
    assert seen == ids[:1]


def test_another_bank_or_fingerprint_is_refused(world: World) -> None:
    data = announce(world)
    assert refusal_of(world, data, bank="south") is Refusal.WRONG_BANK
    assert refusal_of(world, data, pinned=fingerprint(seed("other"))) is Refusal.WRONG_BANK
    assert refusal_of(world, data, pinned="") is Refusal.WRONG_BANK
    assert refusal_of(world, data, pinned=fingerprint(world.identity).upper()) is Refusal.WRONG_BANK


@pytest.mark.parametrize("version", [0, 2, -1, 2**63])
def test_another_version_is_unknown(world: World, version: int) -> None:
    assert refusal_of(world, announce(world, version=version)) is Refusal.UNKNOWN_VERSION


def test_a_bad_signature_is_refused(world: World) -> None:
    good = SignedKeyset.decode(announce(world))
    for wrong in (
        alter(good, "signature"),
        SignedKeyset.sign(seed("other"), world.keyset),
        changed(good, keyset=changed(world.keyset, issued_at=NOW).encode()),
        SignedKeyset(good.keyset, sign(world.identity_seed, Domain.CATALOG, good.keyset)),
    ):
        assert refusal_of(world, wrong.encode()) is Refusal.BAD_SIGNATURE


@pytest.mark.parametrize("identity", [b"\1" + bytes(31), bytes(32), b"\2" + bytes(31)], ids=bytes.hex)
def test_an_identity_under_which_anybody_signs_is_refused_although_it_is_pinned(world: World, identity: bytes) -> None:
    keyset = changed(world.keyset, identity=identity).encode()
    forged = SignedKeyset(keyset, b"\1" + bytes(63))
    assert refusal_of(world, forged.encode(), pinned=fingerprint(identity)) is Refusal.BAD_SIGNATURE


def sign_with_mixed_order(key_seed: bytes, text: bytes) -> tuple[bytes, bytes]:
    """A public key with a part of order 2, and a signature that verifies under it (RFC 8032, 5.1.6)."""
    key = crypto_core_ed25519_add(public_key(key_seed), b"\xec" + b"\xff" * 30 + b"\x7f")
    digest = hashlib.sha512(key_seed).digest()[:32]
    clamped = (int.from_bytes(digest, "little") & (2**254 - 8)) | 2**254
    scalar = crypto_core_ed25519_scalar_reduce(clamped.to_bytes(64, "little"))
    for attempt in range(64):
        nonce = crypto_core_ed25519_scalar_reduce(hashlib.sha512(bytes([attempt])).digest())
        point = crypto_scalarmult_ed25519_base_noclamp(nonce)
        challenge = crypto_core_ed25519_scalar_reduce(hashlib.sha512(point + key + text).digest())
        if challenge[0] % 2 == 0:  # an even multiple of the part of order 2 is nothing
            product = crypto_core_ed25519_scalar_mul(challenge, scalar)
            return key, point + crypto_core_ed25519_scalar_add(nonce, product)
    raise AssertionError("every other attempt succeeds")


def test_an_identity_outside_the_subgroup_of_prime_order_is_refused_although_it_signs(world: World) -> None:
    """Whether its signatures verify would depend on the library and on luck."""
    key = sign_with_mixed_order(seed("bank"), b"")[0]
    keyset = changed(world.keyset, identity=key).encode()
    signed_bytes = b"ecash/v1 keyset\0" + len(keyset).to_bytes(4, "big") + keyset
    signature = sign_with_mixed_order(seed("bank"), signed_bytes)[1]
    verify(key, signature, Domain.KEYSET, keyset)
    announced = SignedKeyset(keyset, signature).encode()
    assert refusal_of(world, announced, pinned=fingerprint(key)) is Refusal.BAD_SIGNATURE


@pytest.mark.parametrize(
    "fields",
    [{"number": 1}, {"chain": (bytes(32),)}, {"number": 2, "chain": (bytes(32),)}, {"envelope_keys": ()}],
    ids=str,
)
def test_a_chain_of_wrong_length_or_no_envelope_key_is_malformed(world: World, fields: dict[str, Any]) -> None:
    assert refusal_of(world, announce(world, **fields)) is Refusal.MALFORMED


def test_what_is_no_keyset_is_malformed(world: World) -> None:
    for data in (b"", b"\xc1", announce(world)[:-1], announce(world) + b"\0", SignedKeyset(b"x", bytes(64)).encode()):
        assert refusal_of(world, data) is Refusal.MALFORMED


@pytest.mark.parametrize(
    "twin", [CENTS, alter(CENTS, "value"), alter(CENTS, "redeem_until")], ids=["all", "key", "too"]
)
def test_a_key_that_stands_twice_is_refused_under_whatever_value(world: World, twin: Denomination) -> None:
    """One signature would make two coins of different worth."""
    assert refusal_of(world, announce(world, denominations=(CENTS, twin))) is Refusal.UNKNOWN_DENOMINATION


def test_a_denomination_that_is_revoked_twice_is_malformed(world: World) -> None:
    assert refusal_of(world, announce(world, revoked=(CENTS.id, seed("gone"), CENTS.id))) is Refusal.MALFORMED
    revoked = (CENTS.id, seed("gone"))
    assert open_keyset(BANK, fingerprint(world.identity), announce(world, revoked=revoked)).revoked == revoked


@pytest.mark.parametrize("field", Tariff.__struct_fields__)
def test_no_commission_is_announced_without_the_signature(world: World, field: str) -> None:
    good = SignedKeyset.decode(announce(world))
    cheaper = changed(world.keyset, tariff=alter(world.keyset.tariff, field))
    assert refusal_of(world, changed(good, keyset=cheaper.encode()).encode()) is Refusal.BAD_SIGNATURE


# ---------------------------------------------------------------- succession


def successor(known: Keyset, **fields: Any) -> Keyset:
    new: Keyset = changed(known, number=known.number + 1, chain=(*known.chain, known.hash), issued_at=NOW)
    return changed(new, **fields)  # type: ignore[no-any-return]


def detail_of(known: Keyset, new: Keyset) -> str:
    with pytest.raises(PeerError) as caught:
        check_successor(known, new)
    assert caught.value.refusal is Refusal.FOREIGN_KEYSET
    return caught.value.detail


def test_the_same_keyset_and_any_later_one_of_its_chain_succeed(world: World) -> None:
    second = successor(world.keyset)
    third = successor(second, denominations=(*second.denominations, denomination("JPY", 100)))
    for known, new in ((world.keyset, world.keyset), (world.keyset, second), (world.keyset, third), (second, third)):
        check_successor(known, new)


def test_a_keyset_is_not_rolled_back(world: World) -> None:
    assert "rolled back" in detail_of(successor(world.keyset), world.keyset)


@pytest.mark.parametrize("field", ["issued_at", "limits", "tariff", "denominations", "revoked"])
def test_two_keysets_of_one_number_are_a_fork(world: World, field: str) -> None:
    assert "forked" in detail_of(world.keyset, changed(world.keyset, **{field: altered(getattr(world.keyset, field))}))


def test_a_chain_without_the_known_keyset_is_a_fork(world: World) -> None:
    known = successor(world.keyset)
    other = successor(changed(world.keyset, issued_at=NOW - 5))
    assert "forked" in detail_of(known, other)
    assert "forked" in detail_of(known, successor(other))
    swapped = successor(known)
    assert "forked" in detail_of(known, changed(swapped, chain=swapped.chain[::-1]))


def test_a_denomination_does_not_vanish_before_its_redeem_until(world: World) -> None:
    gone = world.keyset.denominations[1:]
    until = world.keyset.denominations[0].redeem_until
    assert "withdrawn" in detail_of(world.keyset, successor(world.keyset, denominations=gone, issued_at=until - 1))
    check_successor(world.keyset, successor(world.keyset, denominations=gone, issued_at=until))


@pytest.mark.parametrize("field", sorted(set(Denomination.__struct_fields__) - {"public_key"}))
def test_the_description_of_a_denomination_does_not_change(world: World, field: str) -> None:
    first, *others = world.keyset.denominations
    new = successor(world.keyset, denominations=(alter(first, field), *others))
    assert "changed" in detail_of(world.keyset, new)


def test_a_revocation_is_not_taken_back(world: World) -> None:
    one, two = (denomination.id for denomination in world.keyset.denominations[:2])
    known = successor(world.keyset, revoked=(one,))
    check_successor(world.keyset, known)
    check_successor(known, successor(known, revoked=(two, one)))
    assert "revocation" in detail_of(known, successor(known, revoked=()))
    assert "revocation" in detail_of(known, successor(known, revoked=(two,)))


def test_a_revocation_outlasts_its_denomination(world: World) -> None:
    known = successor(world.keyset, revoked=(CENTS.id,))
    gone = {"denominations": world.keyset.denominations[1:], "issued_at": CENTS.redeem_until}
    check_successor(known, successor(known, **gone))
    assert "revocation" in detail_of(known, successor(known, revoked=(), **gone))


# ---------------------------------------------------------------- key ring


def test_a_key_ring_finds_denominations_and_their_keys(world: World) -> None:
    assert dict(world.ring.items()) == {one.id: one for one in world.keyset.denominations}
    for one in world.keyset.denominations:
        assert world.ring.denomination(one.id) == one
        assert world.ring.key(one.id).to_der() == one.public_key


def _at_now(use: Callable[[bytes, int], Denomination], key: bytes) -> Denomination:
    return use(key, NOW)


@pytest.mark.parametrize("unknown", [b"", bytes(32), altered(CENTS.id)], ids=bytes.hex)
def test_an_unknown_denomination_is_refused_whatever_it_is_asked_for(world: World, unknown: bytes) -> None:
    ring = world.ring
    dated = (ring.mintable, ring.spendable, ring.exchangeable, ring.redeemable)
    asked: list[Callable[[bytes], object]] = [ring.denomination, ring.key, *(partial(_at_now, use) for use in dated)]
    for ask in asked:
        with pytest.raises(PeerError) as caught:
            ask(unknown)
        assert caught.value.refusal is Refusal.UNKNOWN_DENOMINATION


def assert_closed(ask: Any, now: int) -> None:
    with pytest.raises(PeerError) as caught:
        ask(CENTS.id, now)
    assert caught.value.refusal is Refusal.DENOMINATION_CLOSED


def test_coins_are_minted_from_the_first_millisecond_to_the_last(world: World) -> None:
    assert_closed(world.ring.mintable, CENTS.mint_from - 1)
    assert world.ring.mintable(CENTS.id, CENTS.mint_from) == CENTS
    assert world.ring.mintable(CENTS.id, CENTS.mint_until - 1) == CENTS
    assert_closed(world.ring.mintable, CENTS.mint_until)


def test_coins_are_spent_to_the_last_millisecond(world: World) -> None:
    assert world.ring.spendable(CENTS.id, CENTS.mint_from - 1) == CENTS
    assert world.ring.spendable(CENTS.id, CENTS.spend_until - 1) == CENTS
    assert_closed(world.ring.spendable, CENTS.spend_until)


@pytest.mark.parametrize("use", ["exchangeable", "redeemable"])
def test_coins_are_exchanged_and_redeemed_after_they_can_be_spent_to_the_last_millisecond(
    world: World, use: str
) -> None:
    ask = getattr(world.ring, use)
    for now in (CENTS.mint_from - 1, CENTS.spend_until, CENTS.redeem_until - 1):
        assert ask(CENTS.id, now) == CENTS
    assert_closed(ask, CENTS.redeem_until)


class TestRevoked:
    ring = KeyRing(changed(make_world().keyset, revoked=(CENTS.id, seed("an older denomination"))))

    @pytest.mark.parametrize("use", ["mintable", "spendable", "exchangeable"])
    @pytest.mark.parametrize("now", [NOW, CENTS.redeem_until])
    def test_coins_under_a_revoked_key_are_neither_minted_nor_taken(self, use: str, now: int) -> None:
        with pytest.raises(PeerError) as caught:
            getattr(self.ring, use)(CENTS.id, now)
        assert caught.value.refusal is Refusal.KEY_REVOKED

    def test_their_value_can_be_redeemed_as_long_as_that_of_others(self) -> None:
        assert self.ring.redeemable(CENTS.id, CENTS.redeem_until - 1) == CENTS
        assert_closed(self.ring.redeemable, CENTS.redeem_until)

    def test_they_are_known_but_not_current(self, world: World) -> None:
        assert set(self.ring.revoked) == {CENTS.id, seed("an older denomination")}
        assert set(world.ring.revoked) == set()
        assert self.ring.denomination(CENTS.id) == CENTS
        assert self.ring.current("USD", NOW) == {value: world.ids["USD", value] for value in (200, 500)}

    @pytest.mark.parametrize("use", ["mintable", "spendable", "exchangeable"])
    def test_the_other_keys_are_as_good_as_before(self, world: World, use: str) -> None:
        other = world.ids["USD", 200]
        assert getattr(self.ring, use)(other, NOW).value == 200


def test_what_is_minted_now_is_listed_by_value(world: World) -> None:
    assert world.ring.current("USD", NOW) == {value: world.ids["USD", value] for value in (100, 200, 500)}
    assert world.ring.current("EUR", NOW) == {100: world.ids["EUR", 100]}
    assert world.ring.current("JPY", NOW) == {}
    assert world.ring.current("USD", CENTS.mint_from - 1) == {}
    assert world.ring.current("USD", CENTS.mint_from)[100] == CENTS.id
    assert world.ring.current("USD", CENTS.mint_until - 1)[100] == CENTS.id
    assert world.ring.current("USD", CENTS.mint_until) == {}


@pytest.mark.parametrize("first", [True, False])
def test_of_two_denominations_with_one_value_the_last_to_expire_is_current(world: World, first: bool) -> None:
    younger = changed(
        CENTS,
        public_key=world.ring.key(world.ids["EUR", 100]).to_der(),
        spend_until=CENTS.spend_until + DAY,
        redeem_until=CENTS.redeem_until + DAY,
    )
    pair = (younger, CENTS) if first else (CENTS, younger)
    assert KeyRing(changed(world.keyset, denominations=pair)).current("USD", NOW) == {100: younger.id}


def test_a_ring_knows_its_denominations_and_a_stored_keyset_is_read_unchecked(world: World) -> None:
    announced = SignedKeyset.sign(world.identity_seed, world.keyset).encode()
    assert read_keyset(announced) == world.keyset
    assert set(world.ring.ids) == {denomination.id for denomination in world.keyset.denominations}
    assert dict(world.ring.items()) == {d.id: d for d in world.keyset.denominations}
