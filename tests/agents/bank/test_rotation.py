"""Keysets that follow the first one, as a wallet sees them."""

import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agents.bank.home import DAY_MS, Settings, keys_of, sign_keyset
from agents.bank.rotation import GRACE_MS, announcement_of, forget_keys, rotate
from protocol.envelope import seal
from protocol.errors import PeerError
from protocol.keyset import Denomination, KeyRing, Keyset, check_successor, fingerprint, open_keyset
from protocol.refusals import Refusal
from tests.agents.world import BANK, SETTINGS, START, mint
from tests.simulation.entropy import SeededEntropy

NOW = START + DAY_MS
FEW: Settings = msgspec.structs.replace(SETTINGS, largest_denomination=1, mint_days=10, spend_days=20, redeem_days=30)
"""Two values: 1 and 2."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    shutil.copytree(mint().folder, tmp_path / "bank")
    return tmp_path / "bank"


@pytest.fixture
def known() -> Keyset:
    return mint().keyset


def follow(home: Path, known: Keyset, now: int = NOW, **how: Any) -> Keyset:
    """Rotate, and look at the result as a wallet that knows the one before does."""
    made = rotate(home, known, now, FEW, **how)
    seen = open_keyset(BANK, fingerprint(known.identity), announcement_of(home, known, made), KeyRing(known).ids)
    check_successor(known, seen)
    assert seen == made
    return made


def new_in(known: Keyset, made: Keyset) -> list[Denomination]:
    return [one for one in made.denominations if one not in known.denominations]


def of_value(keyset: Keyset, value: int) -> bytes:
    return next(one.id for one in keyset.denominations if one.value == value)


def test_a_new_epoch_has_new_keys_beside_the_old_ones_whose_dates_stay(home: Path, known: Keyset) -> None:
    made = follow(home, known)
    assert (made.number, made.chain, made.issued_at) == (1, (known.hash,), NOW)
    assert made.denominations[: len(known.denominations)] == known.denominations
    assert [(one.value, one.mint_from, one.mint_until) for one in new_in(known, made)] == [
        (1, NOW, NOW + 10 * DAY_MS),
        (2, NOW, NOW + 10 * DAY_MS),
    ]
    assert {one.id for one in made.denominations} == keys_of(home).denominations.keys()


def test_an_epoch_is_announced_ahead_and_mints_when_it_begins(home: Path, known: Keyset) -> None:
    made = follow(home, known, mint_from=NOW + 7 * DAY_MS)
    (first, _), ring = new_in(known, made), KeyRing(made)
    with pytest.raises(PeerError) as caught:
        ring.mintable(first.id, NOW)
    assert caught.value.refusal is Refusal.DENOMINATION_CLOSED
    assert ring.mintable(first.id, NOW + 7 * DAY_MS) == first


def test_each_keyset_holds_the_hashes_of_all_before(home: Path, known: Keyset) -> None:
    second = follow(home, known)
    third = follow(home, second, NOW + DAY_MS)
    assert third.chain == (known.hash, second.hash)
    check_successor(known, third)


def test_what_is_worth_nothing_any_more_is_dropped(home: Path, known: Keyset) -> None:
    second = follow(home, known)
    short = new_in(known, second)
    kept = follow(home, second, NOW + 30 * DAY_MS - 1)
    assert set(short) <= set(kept.denominations)
    third = follow(home, second, NOW + 30 * DAY_MS)
    assert not set(short) & set(third.denominations)


def test_a_new_envelope_key_comes_first_and_the_old_one_still_opens(home: Path, known: Keyset) -> None:
    made = follow(home, known, envelope=SeededEntropy("another envelope"))
    assert made.envelope_keys[1:] == known.envelope_keys
    assert made.envelope_key != known.envelope_key
    private = keys_of(home).envelopes
    for keyset in (known, made):
        envelope = seal(keyset.envelope_key, "parcel", b"hello")
        assert private[keyset.envelope_key.key_id].open(envelope, "parcel") == b"hello"


def test_the_settings_of_today_are_announced(home: Path, known: Keyset) -> None:
    settings = msgspec.structs.replace(FEW, deposit_commission="20%", max_coins=5, lanes=8)
    made = rotate(home, known, NOW, settings)
    assert made.tariff.deposit != known.tariff.deposit
    assert (made.limits.max_coins, made.limits.lanes) == (5, 8)


@pytest.mark.parametrize(
    "wrong",
    [{"mint_days": 21}, {"lanes": 0}, {"max_coins": 201}, {"deposit_commission": "much"}],
    ids=["days", "lanes", "coins", "commission"],
)
def test_settings_that_make_no_sense_make_no_keys(home: Path, known: Keyset, wrong: dict[str, Any]) -> None:
    before = keys_of(home).denominations.keys()
    with pytest.raises(ValueError):  # noqa: PT011 - each has a sentence of its own
        rotate(home, known, NOW, msgspec.structs.replace(FEW, **wrong))
    assert keys_of(home).denominations.keys() == before


def test_an_epoch_does_not_begin_in_the_past(home: Path, known: Keyset) -> None:
    with pytest.raises(ValueError, match="now or later"):
        rotate(home, known, NOW, FEW, mint_from=NOW - 1)


def test_what_a_wallet_would_refuse_is_not_signed(home: Path, known: Keyset) -> None:
    made = rotate(home, known, NOW, FEW)
    shrunk = msgspec.structs.replace(made, denominations=made.denominations[1:])
    with pytest.raises(PeerError) as caught:
        announcement_of(home, known, shrunk)
    assert caught.value.refusal is Refusal.FOREIGN_KEYSET


# ---------------------------------------------------------------- revocation


def test_a_revoked_key_is_replaced_at_once(home: Path, known: Keyset) -> None:
    stolen = of_value(known, 2)
    made = follow(home, known, revoked=[stolen, stolen])
    assert made.revoked == (stolen,)
    assert [(one.value, one.mint_from) for one in new_in(known, made)] == [(2, NOW)]
    assert KeyRing(made).current("USD", NOW)[2] == new_in(known, made)[0].id


def test_a_revoked_key_that_another_stands_in_for_is_not_replaced(home: Path, known: Keyset) -> None:
    second = follow(home, known)
    short = next(one for one in new_in(known, second) if one.value == 2)
    third = follow(home, second, NOW + 1, revoked=[short.id])
    assert new_in(second, third) == []


def test_a_revoked_key_that_was_announced_ahead_is_replaced_from_when_it_would_begin(home: Path, known: Keyset) -> None:
    begin = NOW + 40_000 * DAY_MS  # after the keys of today
    second = follow(home, known, mint_from=begin)
    third = follow(home, second, NOW + 1, revoked=[one.id for one in new_in(known, second)])
    assert [(one.value, one.mint_from) for one in new_in(second, third)] == [(1, begin), (2, begin)]


def test_a_key_that_is_minted_no_more_is_revoked_without_another(home: Path, known: Keyset) -> None:
    second = follow(home, known)
    third = follow(home, second, NOW + 10 * DAY_MS, revoked=[new_in(known, second)[0].id])
    assert new_in(second, third) == []


def test_a_revocation_stays_for_ever(home: Path, known: Keyset) -> None:
    stolen = of_value(known, 1)
    second = follow(home, known, revoked=[stolen])
    third = follow(home, second, NOW + 1)
    assert third.revoked == (stolen,)
    for again in (stolen, bytes(32)):
        with pytest.raises(ValueError, match="revoked already"):
            rotate(home, third, NOW, FEW, revoked=[again])


# ---------------------------------------------------------------- private keys


def test_private_keys_go_a_day_after_they_signed_their_last_coin(home: Path, known: Keyset) -> None:
    made = follow(home, known)
    end = NOW + 10 * DAY_MS + GRACE_MS
    assert forget_keys(home, [known, made], end - 1) == 0
    assert forget_keys(home, [known, made], end) == 2
    assert keys_of(home).denominations.keys() == {one.id for one in known.denominations}


def test_the_private_keys_of_revoked_and_of_dropped_denominations_go(home: Path, known: Keyset) -> None:
    stolen = of_value(known, 1)
    second = follow(home, known, revoked=[stolen])
    third = follow(home, second, NOW + 30 * DAY_MS)
    assert new_in(known, second)[0] not in third.denominations
    assert forget_keys(home, [known, second, third], third.issued_at) == 2
    kept = {one.id for one in third.denominations} - {stolen}
    assert keys_of(home).denominations.keys() == kept


def test_keys_whose_keyset_was_never_entered_do_no_harm(home: Path, known: Keyset) -> None:
    lost = rotate(home, known, NOW, FEW)  # and the process ends here
    (home / "keys/denomination" / ("00" * 32 + ".new")).write_bytes(b"half a k")
    made = follow(home, known, NOW + 1)
    assert forget_keys(home, [known, made], NOW + 1) == 0
    assert {one.id for one in made.denominations} < keys_of(home).denominations.keys()
    with pytest.raises(PeerError):
        check_successor(made, open_keyset(BANK, fingerprint(known.identity), sign_keyset(mint().keys.identity, lost)))
