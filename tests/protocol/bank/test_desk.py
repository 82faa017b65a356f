import pytest

from protocol.bank.desk import DETAILS, Account, Contradicted, Refused, at_generation, contradicted, known, refused
from protocol.bank.ledger import Conflict
from protocol.coins import Evidence
from protocol.errors import PeerError
from protocol.refusals import Refusal
from tests.world import GENERATION, NOW, World, seed
from tests.world import world as make_world

EVIDENCE = Evidence(seed("denomination"), seed("serial"), seed("digest"), bytes(64))


def test_an_account_that_is_open_is_known(world: World) -> None:
    assert known(world.account) is world.account


def test_no_account_is_unknown() -> None:
    with pytest.raises(PeerError) as caught:
        known(None)
    assert caught.value.refusal is Refusal.UNKNOWN_ACCOUNT


def test_the_device_that_has_taken_over_last_is_served(world: World) -> None:
    assert at_generation(world.client, GENERATION) is world.client
    assert at_generation(world.account, 0) is world.account


@pytest.mark.parametrize(
    ("account", "number", "refusal"),
    [
        (None, 0, Refusal.UNKNOWN_ACCOUNT),
        (make_world().client, GENERATION - 1, Refusal.SUPERSEDED),
        (make_world().client, GENERATION + 1, Refusal.SUPERSEDED),
        (make_world().client, 0, Refusal.SUPERSEDED),
    ],
    ids=["no account", "an old device", "a device to come", "no device"],
)
def test_no_other_device_is_served(account: Account | None, number: int, refusal: Refusal) -> None:
    with pytest.raises(PeerError) as caught:
        at_generation(account, number)
    assert caught.value.refusal is refusal


def test_an_error_becomes_a_refusal_with_code_and_detail() -> None:
    assert refused(PeerError(Refusal.BAD_COIN, "why")) == Refused("bad_coin", "why")


@pytest.mark.parametrize("code", DETAILS)
def test_what_the_books_contradict_is_explained(code: str) -> None:
    state = contradicted(Contradicted(Conflict(code), NOW))
    assert state == Refused(code, DETAILS[code])
    assert state.detail
    assert code in set(Refusal)


def test_a_code_without_explanation_is_told_as_it_is() -> None:
    assert contradicted(Contradicted(Conflict("already_paid"), NOW)) == Refused("already_paid", "")


def test_the_evidence_of_the_books_is_kept_for_who_asked() -> None:
    conflict = Conflict(Refusal.ALREADY_SPENT, (EVIDENCE,))
    assert contradicted(Contradicted(conflict, NOW)).evidence == (EVIDENCE,)


@pytest.mark.parametrize("lasting", [True, False])
def test_a_refusal_lasts_if_it_is_said_to(lasting: bool) -> None:
    assert refused(PeerError(Refusal.BAD_COIN, "why"), lasting=lasting).lasting == lasting
    assert contradicted(Contradicted(Conflict(Refusal.REQUEST_EXPIRED), NOW), lasting=lasting).lasting == lasting


def test_that_coins_are_spent_lasts_by_itself_and_need_not_be_stored() -> None:
    assert not contradicted(Contradicted(Conflict(Refusal.ALREADY_SPENT), NOW), lasting=True).lasting
