import pytest

from protocol.coins import Coin, Evidence, SpentCoin, check_coin, check_distinct, check_spend, message_of, spend
from protocol.errors import PeerError
from protocol.refusals import Refusal
from tests.world import World, alter, seed

DIGEST, OTHER = seed("a payment"), seed("another payment")


@pytest.fixture
def coin(world: World) -> Coin:
    return world.purse.coins[0]


@pytest.fixture
def spent(world: World) -> SpentCoin:
    return world.purse.spend(DIGEST)[0]


def evidence_of(spent: SpentCoin) -> Evidence:
    return Evidence(spent.coin.denomination, spent.coin.serial, DIGEST, spent.spend)


def test_what_the_bank_signs_names_denomination_and_serial() -> None:
    assert message_of(b"d" * 32, b"s" * 32) == b"ecash/v1 coin\0" + b"d" * 32 + b"s" * 32


def test_a_minted_coin_is_good(world: World, coin: Coin) -> None:
    check_coin(world.ring.key(coin.denomination), coin)


@pytest.mark.parametrize("field", Coin.__struct_fields__)
def test_a_coin_altered_in_any_field_is_bad(world: World, coin: Coin, field: str) -> None:
    with pytest.raises(PeerError) as caught:
        check_coin(world.ring.key(coin.denomination), alter(coin, field))
    assert caught.value.refusal is Refusal.BAD_COIN


def test_a_coin_is_worth_what_its_key_says_and_nothing_else(world: World, coin: Coin) -> None:
    dearer = alter(coin, "denomination", world.ids["USD", 500])
    for key in (world.ring.key(coin.denomination), world.ring.key(dearer.denomination)):
        with pytest.raises(PeerError) as caught:
            check_coin(key, dearer)
        assert caught.value.refusal is Refusal.BAD_COIN


def test_a_coin_spent_by_its_holder_is_spent_on_that_payment_alone(spent: SpentCoin) -> None:
    check_spend(spent, DIGEST)
    with pytest.raises(PeerError) as caught:
        check_spend(spent, OTHER)
    assert caught.value.refusal is Refusal.BAD_SPEND_SIGNATURE


@pytest.mark.parametrize("field", ["denomination", "serial"])
def test_a_spend_signature_is_for_one_coin(spent: SpentCoin, field: str) -> None:
    with pytest.raises(PeerError) as caught:
        check_spend(SpentCoin(alter(spent.coin, field), spent.spend), DIGEST)
    assert caught.value.refusal is Refusal.BAD_SPEND_SIGNATURE


def test_nobody_but_the_holder_spends_a_coin(coin: Coin) -> None:
    with pytest.raises(PeerError) as caught:
        check_spend(spend(coin, seed("thief"), DIGEST), DIGEST)
    assert caught.value.refusal is Refusal.BAD_SPEND_SIGNATURE


def test_the_earlier_signature_is_evidence(spent: SpentCoin) -> None:
    evidence_of(spent).check()


@pytest.mark.parametrize("field", Evidence.__struct_fields__)
def test_altered_evidence_is_none(spent: SpentCoin, field: str) -> None:
    with pytest.raises(PeerError) as caught:
        alter(evidence_of(spent), field).check()
    assert caught.value.refusal is Refusal.BAD_SIGNATURE


def test_coins_are_distinct_by_their_serial_numbers(world: World, coin: Coin) -> None:
    check_distinct(())
    check_distinct(world.purse.coins)
    for twin in (coin, alter(coin, "signature"), alter(coin, "denomination")):
        with pytest.raises(PeerError) as caught:
            check_distinct((coin, twin))
        assert caught.value.refusal is Refusal.DUPLICATE_COIN
