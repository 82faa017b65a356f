"""The bank's totals, made from its books."""

import msgspec

from agents.bank.totals import count, sign_totals
from protocol.totals import Totals, check_growth, open_totals, sums
from tests.agents.byhand import Caller, Purse
from tests.agents.world import Town
from tests.simulation.clock import VirtualClock


async def totals_of(town: Town) -> Totals:
    made = sign_totals(await count(town.books, town.clock), town.keyset, town.mint.keys.identity)
    return open_totals(made, town.keyset)


async def test_a_bank_without_coins_has_totals_too(founded: Town) -> None:
    totals = await totals_of(founded)
    assert (totals.denominations, totals.keyset) == ((), founded.keyset.hash)


async def test_totals_follow_what_is_minted_and_spent(alice: Caller, keeper: Caller, clock: VirtualClock) -> None:
    town = alice.town
    purse = await alice.withdraw(8, 4, 1, 1)
    before = await totals_of(town)
    spent = Purse(purse.coins[:2], purse.seeds[:2])
    assert (await keeper.verdict(keeper.paying(12, spent))).refusal == ""
    clock.advance(5)
    after = await totals_of(town)
    check_growth(before, after, town.keyset)
    assert after.journal == before.journal + 1
    assert after.at == before.at + 5
    values = {key: denomination.value for key, denomination in town.ring.items()}
    assert {values[one.denomination]: (one.minted, one.spent) for one in after.denominations} == {
        8: (1, 1),
        4: (1, 1),
        1: (2, 0),
    }
    found = sums(after, town.keyset)["USD"]
    assert (found.minted, found.spent, found.outstanding) == (14, 12, 2)


async def test_denominations_that_are_no_longer_announced_are_left_out(alice: Caller) -> None:
    town = alice.town
    await alice.withdraw(8, 1)
    kept = [one for one in town.keyset.denominations if one.value == 8]
    keyset = msgspec.structs.replace(town.keyset, denominations=tuple(kept))
    totals = open_totals(sign_totals(await count(town.books, town.clock), keyset, town.mint.keys.identity), keyset)
    assert [one.denomination for one in totals.denominations] == [kept[0].id]
