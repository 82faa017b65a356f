"""What the machines do to coins, over any course of events: none is lost, and none counts twice."""

from collections.abc import Callable, Iterable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from protocol.machine import Effect, Overdue
from protocol.refusals import Refusal
from protocol.wallet import exchange, payment
from protocol.wallet.purse import KeepCoins, ReleaseCoins, ReserveCoins, SetCoinsAside, SpendCoins
from tests.world import BANK, DAY, NOW, SHOP, seed, world

SERIALS = (seed("one"), seed("two"), seed("three"))
PAYMENT = payment.Payment(seed("digest"), SHOP, BANK, SERIALS, NOW + DAY, b"p" * 16, b"pay", b"i" * 16, b"inquiry")
PROVEN = st.lists(st.sampled_from([*SERIALS, seed("four")]), max_size=4).map(tuple)
OVERDUE = st.builds(Overdue, st.integers(NOW - DAY, NOW + 30 * DAY), st.integers(0, 1000))
INDEXED = tuple(enumerate(world().purse.coins))
FRESH = st.lists(st.sampled_from(INDEXED), unique=True).map(tuple)


def swap(*, unverified: bool) -> exchange.Swap:
    return exchange.Swap(BANK, b"r" * 16, seed("digest"), b"sealed", SERIALS, unverified, (seed("a"),) * 3)


PAYMENT_EVENTS = st.one_of(
    OVERDUE,
    st.builds(payment.ReceiptArrived, st.just(b"verdict"), st.sampled_from([b"", b"receipt"])),
    st.builds(
        payment.RefusalByBank,
        st.just(b"verdict"),
        st.sampled_from([Refusal.ALREADY_SPENT, Refusal.PAYMENT_EXPIRED]),
        PROVEN,
        st.booleans(),
    ),
    st.just(payment.RefusalByMerchant("sale_expired", "")),
    st.just(payment.InquiryRefused(b"answer", "malformed", "")),
)
EXCHANGE_EVENTS = st.one_of(
    OVERDUE,
    st.builds(exchange.CoinsVerified, FRESH, st.just(800)),
    st.builds(exchange.AnswerWrong, st.just(b"answer"), st.just("why"), FRESH),
    st.builds(exchange.RefusalArrived, st.sampled_from([Refusal.ALREADY_SPENT, Refusal.BAD_COIN]), PROVEN),
)


class Purse:
    """The states of coins; a move from any state but the one that the effect names is an error."""

    def __init__(self, state: str) -> None:
        self.coins = dict.fromkeys(SERIALS, state)
        self.kept: list[bytes] = []

    def apply(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case ReserveCoins(serials=serials):
                    self._move(serials, "unverified" if effect.unverified else "free", "reserved")
                case ReleaseCoins(serials=serials):
                    self._move(serials, "reserved", "unverified" if effect.unverified else "free")
                case SpendCoins(serials=serials):
                    self._move(serials, "reserved", "spent")
                case SetCoinsAside(serials=serials):
                    self._move(serials, "reserved", "aside")
                case KeepCoins(coins=coins, unverified=False):
                    self.kept += [coin.serial for _, coin in coins]
                case _:
                    pass

    def _move(self, serials: Iterable[bytes], old: str, new: str) -> None:
        for serial in serials:
            assert self.coins[serial] == old
            self.coins[serial] = new


def run(step: Callable[[Any, Any], Any], table: Any, purse: Purse, begin: tuple[Any, Any], events: list[Any]) -> Any:
    """Feed what the table knows; return the last state."""
    state, effects = step(*begin)
    purse.apply(effects)
    assert set(purse.coins.values()) == {"reserved"}
    for event in events:
        if (type(state), type(event)) in table:
            state, effects = step(state, event)
            purse.apply(effects)
    return state


@given(st.lists(PAYMENT_EVENTS, max_size=12))
def test_a_payments_coins_are_reserved_until_it_ends_and_each_ends_once(events: list[payment.PaymentEvent]) -> None:
    purse = Purse("free")
    begin = (payment.New(), payment.Begin(PAYMENT, NOW, 0))
    state = run(payment.step, payment.TRANSITIONS, purse, begin, events)
    ends: dict[type, set[str]] = {
        payment.Unreceipted: {"spent"},
        payment.Paid: {"spent"},
        payment.Refused: {"spent", "free"},
        payment.Released: {"free"},
        payment.Disputed: {"aside"},
    }
    assert set(purse.coins.values()) <= ends.get(type(state), {"reserved"})


@given(st.lists(EXCHANGE_EVENTS, max_size=6), st.booleans())
def test_an_exchanges_coins_are_reserved_until_it_ends_and_new_ones_come_once(
    events: list[exchange.ExchangeEvent], unverified: bool
) -> None:
    before = "unverified" if unverified else "free"
    purse = Purse(before)
    begin = (exchange.New(), exchange.Begin(swap(unverified=unverified), NOW, 0))
    state = run(exchange.step, exchange.TRANSITIONS, purse, begin, events)
    ends: dict[type, set[str]] = {
        exchange.Exchanged: {"spent"},
        exchange.Refused: {"spent", before},
        exchange.Disputed: {"aside"},
    }
    assert set(purse.coins.values()) <= ends.get(type(state), {"reserved"})
    assert len(purse.kept) == len(set(purse.kept))
    if not isinstance(state, exchange.Exchanged | exchange.Disputed):
        assert purse.kept == []
