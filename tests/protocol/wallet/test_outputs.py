from itertools import permutations

import msgspec
import pytest

from protocol.blind_rsa import check_blinded
from protocol.coins import check_coin
from protocol.derivation import Root
from protocol.errors import PeerError
from protocol.messages import BlindSignature
from protocol.refusals import Refusal
from protocol.signatures import public_key
from protocol.wallet.outputs import blind_outputs, in_order, unblind_outputs
from tests.world import World, alter, altered
from tests.world import world as make_world

WORLD = make_world()
REQUEST_ID = b"o" * 16
ASKED = (WORLD.ids["USD", 100], WORLD.ids["USD", 500], WORLD.ids["USD", 100])
BLINDED = blind_outputs(WORLD.root, WORLD.ring, REQUEST_ID, ASKED)
ANSWER = WORLD.issue(BLINDED)
FIRST, SECOND, THIRD = ANSWER


def unblinded(
    signatures: tuple[BlindSignature, ...], asked: tuple[bytes, ...] = ASKED, request_id: bytes = REQUEST_ID
) -> tuple[list[int], str]:
    """The indices of the coins that verified, each of which is checked here, and what is wrong with the others."""
    coins, wrong = unblind_outputs(WORLD.root, WORLD.ring, request_id, asked, signatures)
    for index, coin in coins:
        assert coin.denomination == asked[index]
        assert coin.serial == public_key(WORLD.root.coin(request_id, index))
        check_coin(WORLD.ring.key(coin.denomination), coin)
    return [index for index, _ in coins], wrong


def test_what_is_asked_for_is_the_same_each_time_it_is_written() -> None:
    assert blind_outputs(WORLD.root, WORLD.ring, REQUEST_ID, ASKED) == BLINDED
    assert tuple(coin.denomination for coin in BLINDED) == ASKED
    for coin in BLINDED:
        check_blinded(WORLD.ring.key(coin.denomination), coin.blinded)


def test_whatever_coins_are_for_they_are_asked_for_in_one_order() -> None:
    one, two, five = (WORLD.ids["USD", value] for value in (100, 200, 500))
    euro = WORLD.ids["EUR", 100]
    for given in permutations([one, five, two, five]):
        assert in_order(WORLD.ring, given) == (five, five, two, one)
    assert in_order(WORLD.ring, [one, euro]) == in_order(WORLD.ring, [euro, one])
    with pytest.raises(PeerError) as caught:
        in_order(WORLD.ring, [bytes(32), one])
    assert caught.value.refusal is Refusal.UNKNOWN_DENOMINATION


def test_two_requests_two_indices_and_two_wallets_share_no_blinded_value(world: World) -> None:
    pair = [world.ids["USD", 100]] * 2
    written = [
        blind_outputs(world.root, world.ring, REQUEST_ID, pair),
        blind_outputs(world.root, world.ring, bytes(16), pair),
        blind_outputs(Root(bytes(63) + b"\1"), world.ring, REQUEST_ID, pair),
    ]
    assert len({coin.blinded for coins in written for coin in coins}) == 6


def test_an_unknown_denomination_is_not_asked_for(world: World) -> None:
    with pytest.raises(PeerError) as caught:
        blind_outputs(world.root, world.ring, REQUEST_ID, [bytes(32)])
    assert caught.value.refusal is Refusal.UNKNOWN_DENOMINATION


def test_every_signature_makes_a_coin_that_verifies() -> None:
    assert unblinded(ANSWER) == ([0, 1, 2], "")


@pytest.mark.parametrize(("count", "kept"), [(0, []), (1, [0]), (2, [0, 1]), (4, [0, 1, 2])])
def test_too_few_or_too_many_signatures_are_told_and_the_good_ones_kept(count: int, kept: list[int]) -> None:
    assert unblinded((ANSWER * 2)[:count]) == (kept, f"{count} signatures came for 3 coins")


@pytest.mark.parametrize(
    ("signatures", "kept"),
    [
        ((alter(FIRST, "signature"), SECOND, THIRD), [1, 2]),
        ((FIRST, msgspec.structs.replace(SECOND, signature=bytes(256)), THIRD), [0, 2]),
        ((FIRST, SECOND, BlindSignature(ASKED[2], WORLD.ring.key(ASKED[2]).n.to_bytes(256))), [0, 1]),
        ((SECOND, FIRST, THIRD), [2]),
        ((THIRD, SECOND, FIRST), [1]),
        ((FIRST, BlindSignature(ASKED[1], FIRST.signature), THIRD), [0, 2]),
    ],
    ids=["altered", "nothing", "the modulus", "of other denominations", "of other indices", "of another key"],
)
def test_a_wrong_signature_costs_its_own_coin_and_no_other(
    signatures: tuple[BlindSignature, ...], kept: list[int]
) -> None:
    found, wrong = unblinded(signatures)
    assert found == kept
    assert wrong.startswith("coin ")


@pytest.mark.parametrize("denomination", [ASKED[1], bytes(32), altered(ASKED[0])], ids=["known", "none", "unknown"])
def test_a_good_signature_under_the_name_of_another_denomination_makes_no_coin(denomination: bytes) -> None:
    """The value of a coin is that of the denomination that was asked for."""
    found, wrong = unblinded((BlindSignature(denomination, FIRST.signature), SECOND, THIRD))
    assert found == [1, 2]
    assert "another denomination" in wrong


def test_an_answer_to_another_request_makes_no_coins() -> None:
    found, wrong = unblinded(ANSWER, request_id=bytes(16))
    assert found == []
    assert wrong
