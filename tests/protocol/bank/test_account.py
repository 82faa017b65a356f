from typing import Any

import msgspec
import pytest

from protocol.bank.account import (
    TRANSITIONS,
    AccountEvent,
    AccountState,
    Asked,
    Effects,
    Posting,
    Told,
    certify,
    step,
)
from protocol.bank.desk import Committed, Contradicted, New, Post, Refused
from protocol.bank.ledger import Claim, Conflict, Generation
from protocol.machine import State
from protocol.messages import AccountAnswer, Certificate, Signed
from protocol.refusals import Refusal
from protocol.signatures import Domain
from tests.conformance.machine import MachineConformance
from tests.world import ACCOUNT, BANK, NOW, World
from tests.world import world as make_world

WORLD = make_world()
FREE = msgspec.structs.replace(WORLD.account, key=b"")
HELD = msgspec.structs.replace(WORLD.account, generation=4)
LOOK = Asked(WORLD.shop_key, HELD, None, wants=False, generation=0, balance=700, deadline=NOW + 5)
CLAIM = Asked(WORLD.shop_key, None, FREE, wants=True, generation=0, balance=0, deadline=NOW + 5)
TAKE_OVER = msgspec.structs.replace(LOOK, generation=5)


class TestAccountMachine(MachineConformance):
    table = TRANSITIONS
    state_union = AccountState
    event_union = AccountEvent
    states = (New(), Posting(), Told(), Refused(Refusal.UNKNOWN_ACCOUNT, ""))
    events = (
        LOOK,
        CLAIM,
        TAKE_OVER,
        msgspec.structs.replace(LOOK, held=None),
        Committed(),
        Contradicted(Conflict(Refusal.INVALID_INVITATION), NOW),
    )

    def step(self, state: Any, event: Any) -> tuple[State, Effects]:
        return step(state, event, BANK, WORLD.identity_seed, NOW)


def asked(event: Asked) -> tuple[AccountState, Effects]:
    return step(New(), event, BANK, WORLD.identity_seed, NOW)


def posted(event: Asked) -> tuple[Post, AccountAnswer]:
    state, (post,) = asked(event)
    assert state == Posting()
    assert isinstance(post, Post)
    return post, AccountAnswer.decode(post.body)


def test_to_look_changes_nothing_and_tells_the_balance() -> None:
    post, answer = posted(LOOK)
    assert post == Post(body=post.body, generation=Generation(ACCOUNT, 4), not_after=NOW + 5)
    assert (answer.account, answer.kind, answer.name) == (ACCOUNT, "merchant", "The bookshop")
    assert (answer.currency, answer.balance, answer.generation) == ("USD", 700, 4)


def test_to_claim_gives_the_account_its_key() -> None:
    post, answer = posted(CLAIM)
    assert post == Post(body=post.body, claim=Claim(ACCOUNT, WORLD.shop_key), not_after=NOW + 5)
    assert (answer.account, answer.generation) == (ACCOUNT, 1)


def test_who_names_another_generation_while_claiming_still_begins_with_the_first() -> None:
    post, answer = posted(msgspec.structs.replace(CLAIM, generation=3))
    assert (post.generation, answer.generation) == (None, 1)


def test_a_device_takes_the_account_over_under_the_next_number() -> None:
    post, answer = posted(TAKE_OVER)
    assert post.generation == Generation(ACCOUNT, 5, taken_over=True)
    assert (post.claim, answer.generation, answer.balance) == (None, 5, 700)


def test_the_first_device_of_an_account_opened_for_a_key_takes_it_over_too() -> None:
    post, answer = posted(msgspec.structs.replace(LOOK, held=WORLD.account, generation=1))
    assert (post.generation, answer.generation) == (Generation(ACCOUNT, 1, taken_over=True), 1)


def test_who_lost_the_answer_shows_the_used_invitation_again_and_is_told_of_the_account() -> None:
    post, answer = posted(msgspec.structs.replace(CLAIM, invited=None, held=WORLD.account, balance=700))
    assert (post.claim, answer.account, answer.balance) == (None, ACCOUNT, 700)
    assert post.generation == Generation(ACCOUNT, 0)


def test_a_merchant_is_certified_by_the_bank_and_a_client_is_not(world: World) -> None:
    _, answer = posted(LOOK)
    statement = Signed.decode(answer.certificate).check(world.identity, Domain.CERTIFICATE)
    assert Certificate.decode(statement) == msgspec.structs.replace(world.certificate, issued_at=NOW)
    assert certify(BANK, world.identity_seed, world.client, world.client.key, NOW) == b""
    _, answer = posted(msgspec.structs.replace(LOOK, held=world.client))
    assert (answer.kind, answer.certificate) == ("client", b"")


@pytest.mark.parametrize(
    ("event", "refusal"),
    [
        (msgspec.structs.replace(LOOK, held=None), Refusal.UNKNOWN_ACCOUNT),
        (msgspec.structs.replace(CLAIM, invited=None), Refusal.INVALID_INVITATION),
        (msgspec.structs.replace(CLAIM, held=WORLD.account), Refusal.ACCOUNT_EXISTS),
        (msgspec.structs.replace(CLAIM, key=b"\1" + bytes(31)), Refusal.BAD_SIGNATURE),
        (msgspec.structs.replace(LOOK, generation=4), Refusal.SUPERSEDED),
        (msgspec.structs.replace(LOOK, generation=6), Refusal.SUPERSEDED),
        (msgspec.structs.replace(LOOK, generation=1), Refusal.SUPERSEDED),
    ],
    ids=[
        "no account",
        "no invitation",
        "two accounts",
        "key of small order",
        "the present generation",
        "a generation ahead",
        "an old generation",
    ],
)
def test_a_request_is_refused_and_changes_nothing(event: Asked, refusal: Refusal) -> None:
    state, effects = asked(event)
    assert isinstance(state, Refused)
    assert (state.refusal, effects) == (refusal, ())


def test_the_books_decide_who_was_first() -> None:
    event = Contradicted(Conflict(Refusal.INVALID_INVITATION), NOW)
    state, effects = step(Posting(), event, BANK, WORLD.identity_seed, NOW)
    assert (state, effects) == (Refused("invalid_invitation", "the invitation was used"), ())
    assert step(Posting(), Committed(), BANK, WORLD.identity_seed, NOW) == (Told(), ())
    raced = Contradicted(Conflict(Refusal.SUPERSEDED), NOW)
    state, effects = step(Posting(), raced, BANK, WORLD.identity_seed, NOW)
    assert (state, effects) == (Refused("superseded", "another device has taken over this account"), ())
