import msgspec
import pytest

from agents.bank.home import sign_keyset
from agents.bank.web.keys import epochs_of, minted_until
from protocol.keyset import Keyset
from tests.agents.bank.web.conftest import Operator, change
from tests.agents.world import START, mint

DAY = 86_400_000


def successor(**changes: object) -> Keyset:
    known = mint().keyset
    return msgspec.structs.replace(known, number=1, chain=(known.hash,), **changes)


async def announce(operator: Operator, keyset: Keyset) -> None:
    await operator.town.books.add_keyset(keyset.number, sign_keyset(mint().keys.identity, keyset))


async def test_keys_are_shown_with_their_dates(operator: Operator) -> None:
    page = await operator.see("/keys")
    assert "Keyset 0" in page
    for denomination in mint().keyset.denominations:
        assert denomination.id.hex()[:12] in page
    assert page.count("Minted ") > 5
    assert f"ecash bank rotate --in-days 7 --home {operator.home}" in page


async def test_a_revoked_key_is_shown_and_new_ones_are_due(operator: Operator) -> None:
    lost = mint().keyset.denominations[0].id
    await announce(operator, successor(revoked=(lost,)))
    page = await operator.see("/keys")
    assert f"{lost.hex()[:12]} Revoked" in page
    assert "Some values have no key any more" in page


@pytest.mark.parametrize(("days", "due"), [(29, True), (31, False)])
async def test_new_keys_are_due_a_month_before_the_old_ones_end(operator: Operator, days: int, due: bool) -> None:
    first, *rest = mint().keyset.denominations
    first = msgspec.structs.replace(first, mint_until=START + days * DAY)
    await announce(operator, successor(denominations=(first, *rest)))
    assert ("New keys are due" in await operator.see("/keys")) is due


def test_keys_of_the_same_dates_are_an_epoch() -> None:
    keyset = mint().keyset
    first, *rest = keyset.denominations
    later = msgspec.structs.replace(first, mint_from=first.mint_from + DAY, mint_until=first.mint_until + DAY)
    newest, oldest = epochs_of(msgspec.structs.replace(keyset, denominations=(first, later, *rest)), START)
    assert newest.keys == [(later, "announced")]
    assert [one for one, _ in oldest.keys] == [first, *rest]
    assert minted_until(successor(denominations=(first, later))) == later.mint_until
    assert minted_until(successor(denominations=())) == 0


async def test_commission_is_told_with_what_it_earned(trade: Operator) -> None:
    page = await trade.see("/commission")
    assert "Withdrawals A client pays it on top of what he withdraws. 10%" in page
    assert "Refunds A merchant pays it on top of a refund. none" in page
    assert "Withdrawals 1 0.01 USD Sum 0.01 USD" in page
    assert "bank.toml names" not in page


@pytest.mark.parametrize(("policy", "said"), [("5%", "names another commission"), ("much", "makes no sense")])
async def test_commission_that_is_not_announced_yet_is_told(operator: Operator, policy: str, said: str) -> None:
    change(operator.home, deposit_commission=policy)
    page = await operator.see("/commission")
    assert said in page
    assert "Nothing was earned yet." in page
