import asyncio
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.admission import Admission, AdmissionSettings, Bounds, Gate, Told, Turn, Verdict, units
from protocol.answer import MAX_RETRY_AFTER
from tests.simulation.clock import VirtualClock

BOUNDS = Bounds(rate=10, burst=20, each=4, waiting=8, working=2, refusals=5, parties=20)
ADMITTED = Told(Verdict.ADMITTED)


class Door:
    """An admission, and every turn that was told something, in order."""

    def __init__(self, bounds: Bounds = BOUNDS) -> None:
        self.admission = Admission(bounds)
        self.told: list[Turn] = []

    def arrive(self, party: str, cost: int = 1, now: int = 0) -> Turn:
        turn = Turn(party, cost, lambda _: self.told.append(turn))
        self.admission.arrive(turn, now)
        return turn

    def work(self) -> Turn:
        """End the oldest work, and return its turn."""
        turn = next(one for one in self.told if one.told == ADMITTED)
        self.told.remove(turn)
        self.admission.leave(turn)
        return turn


def test_who_comes_while_hands_are_free_is_admitted_at_once() -> None:
    door = Door()
    assert [door.arrive("a").told, door.arrive("b").told, door.arrive("c").told] == [ADMITTED, ADMITTED, None]
    assert (door.admission.working, door.admission.waiting) == (2, 1)
    door.work()
    assert door.admission.figures == {Verdict.ADMITTED: 3}


def test_a_party_has_its_burst_and_then_its_rate() -> None:
    door = Door(Bounds(rate=10, burst=20))
    assert all(door.arrive("a").told == ADMITTED for _ in range(20))
    assert door.arrive("a").told == Told(Verdict.REFUSED, 100)
    assert door.arrive("b").told == ADMITTED
    assert door.arrive("a", now=100).told == ADMITTED
    assert door.arrive("a", now=100).told == Told(Verdict.REFUSED, 100)
    assert door.arrive("a", 5, now=599).told == Told(Verdict.REFUSED, 1)
    assert door.arrive("a", 5, now=600).told == ADMITTED


def test_a_clock_that_is_set_back_starves_nobody() -> None:
    door, year = Door(Bounds(rate=10, burst=20, refusals=1)), 365 * 86_400_000
    assert all(door.arrive("a", now=year).told == ADMITTED for _ in range(20))
    assert door.arrive("a", now=year).told == Told(Verdict.REFUSED, 100)
    assert door.arrive("a", now=1_000).told == Told(Verdict.DROPPED)  # refusals have a rate of their own
    assert door.arrive("a", now=2_000).told == ADMITTED
    assert all(door.arrive("a", now=2_000).told == ADMITTED for _ in range(9))
    assert door.arrive("a", now=2_000).told == Told(Verdict.REFUSED, 100)


def test_what_costs_more_than_a_burst_takes_the_whole_burst() -> None:
    door = Door()
    assert door.arrive("a", 10**6).told == ADMITTED
    assert door.arrive("a", 1).told == Told(Verdict.REFUSED, 100)


def test_who_was_told_to_wait_is_dropped_until_then() -> None:
    door = Door()
    door.arrive("a", 20)
    assert [door.arrive("a", 10, now).told for now in (0, 1, 999)] == [
        Told(Verdict.REFUSED, 1000),
        Told(Verdict.DROPPED),
        Told(Verdict.DROPPED),
    ]
    assert door.arrive("a", 10, 1000).told == ADMITTED


def test_no_more_is_answered_than_can_be_afforded() -> None:
    door = Door()
    for index in range(10):
        door.arrive(str(index), 20)
    verdicts = [told.verdict for one in door.told if (told := one.told)]
    door.told.clear()
    for index in range(10):
        door.arrive(str(index), 20)
    verdicts += [told.verdict for one in door.told if (told := one.told)]
    assert Counter(verdicts) == {Verdict.ADMITTED: 2, Verdict.REFUSED: 5, Verdict.DROPPED: 5}


def test_a_pause_is_never_longer_than_an_answer_can_say() -> None:
    door = Door(Bounds(rate=1, burst=1000))
    door.arrive("a", 1000)
    assert door.arrive("a", 1000).told == Told(Verdict.REFUSED, MAX_RETRY_AFTER)


def test_a_fine_is_paid_before_the_next_request_and_bounded() -> None:
    door = Door()
    door.arrive("a")
    door.admission.fine("a", 10**9)
    door.admission.fine("nobody", 1)
    assert door.arrive("a", 1).told == Told(Verdict.REFUSED, 2_100)  # it owes a burst


def test_a_party_has_only_its_places_and_the_newest_of_who_has_most_gives_way() -> None:
    door = Door()
    for _ in range(2):
        door.arrive("worker")
    greedy = [door.arrive("greedy") for _ in range(5)]
    assert [one.told for one in greedy] == [None] * 4 + [Told(Verdict.REFUSED, 1000)]
    for name in "abcd":
        door.arrive(name)
    assert door.admission.waiting == 8
    assert door.arrive("e").told is None
    assert [one.told for one in greedy[:4]] == [None, None, None, Told(Verdict.DROPPED)]
    assert door.admission.waiting == 8
    assert door.arrive("greedy").told == Told(Verdict.DROPPED)


def test_what_gave_way_costs_its_party_nothing() -> None:
    door = Door(Bounds(rate=1, burst=3, each=3, waiting=2, working=1))
    door.arrive("worker")
    door.arrive("greedy", 1)
    shed = door.arrive("greedy", 2)
    door.arrive("other")
    assert shed.told == Told(Verdict.REFUSED, 1000)
    for _ in range(3):
        door.work()
    assert door.arrive("greedy", 2, 0).told == ADMITTED


def test_who_leaves_before_its_turn_makes_room_and_pays_nothing() -> None:
    door = Door(Bounds(rate=1, burst=2, working=1))
    door.arrive("worker")
    gone = door.arrive("a", 2)
    door.admission.leave(gone)
    assert (door.admission.waiting, gone.told) == (0, None)
    door.arrive("a", 2)
    door.work()
    assert door.admission.working == 1
    refused = door.arrive("a", 2)
    door.admission.leave(refused)
    assert door.admission.working == 1


def test_the_idlest_party_is_forgotten_first_and_none_that_has_requests_here() -> None:
    door = Door(Bounds(rate=1, burst=1, waiting=2, working=1, parties=4))
    door.arrive("worker")
    waiting = door.arrive("waiting")
    for index in range(50):
        door.admission.leave(door.arrive(f"one of many {index}"))
    assert door.admission.parties == 4
    door.work()
    assert waiting.told == ADMITTED


@pytest.mark.parametrize("field", ["rate", "burst", "each", "waiting", "working", "refusals", "parties"])
def test_bounds_of_nothing_are_refused(field: str) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Bounds(**{field: 0})


def test_settings_are_bounds() -> None:
    assert AdmissionSettings().bounds() == Bounds()
    assert AdmissionSettings(request_rate=7, requests_working=3).bounds() == Bounds(rate=7, working=3)
    with pytest.raises(ValueError, match="remembered"):
        AdmissionSettings(requests_waiting=10_000)


def test_a_request_costs_by_its_kind_and_its_size() -> None:
    assert [units(bytes(size)) for size in (0, 4_095, 4_096, 40_000)] == [1, 1, 2, 10]
    assert units(bytes(30_000), 16, 1_024) == 45


@settings(max_examples=60)
@given(st.integers(1, 12), st.integers(1, 30), st.integers(1, 20), st.data())
def test_however_much_one_sends_each_other_waits_for_one_request_of_each_party(
    honest: int, each: int, cost: int, data: st.DataObject
) -> None:
    door = Door(Bounds(rate=10**9, burst=10**9, each=each, waiting=64, working=1, parties=100))
    door.arrive("flooder", cost)
    flood = st.integers(0, 40)
    turns = []
    for index in range(honest):
        for _ in range(data.draw(flood)):
            door.arrive("flooder", cost)
        turns.append(door.arrive(f"honest {index}"))
    for _ in range(data.draw(flood)):
        door.arrive("flooder", cost)
    served = [door.work().party for _ in range(honest + 2) if door.admission.working]
    assert all(one.told == ADMITTED for one in turns)
    assert served.count("flooder") <= 2  # the one that was worked on already, and one turn


@settings(max_examples=30)
@given(st.lists(st.integers(1, 9), min_size=2, max_size=2))
def test_who_asks_for_dear_things_has_fewer_of_them(costs: list[int]) -> None:
    door = Door(Bounds(rate=10**9, burst=10**9, each=100, waiting=200, working=1))
    for _ in range(100):
        for party, cost in zip("ab", costs, strict=True):
            door.arrive(party, cost)
    had: Counter[str] = Counter()
    for _ in range(90):
        turn = door.work()
        had[turn.party] += turn.cost
    assert abs(had["a"] - had["b"]) <= 2 * max(costs)


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("arrive"), st.integers(0, 8), st.integers(1, 12)),
        st.tuples(st.just("leave"), st.integers(0, 40), st.just(0)),
        st.tuples(st.just("pass"), st.integers(0, 2_000), st.just(0)),
        st.tuples(st.just("fine"), st.integers(0, 8), st.integers(1, 12)),
    ),
    max_size=60,
)


@settings(max_examples=60)
@given(_STEPS)
def test_every_turn_is_told_once_within_all_bounds(steps: list[tuple[str, int, int]]) -> None:
    bounds = Bounds(rate=5, burst=10, each=3, waiting=6, working=2, refusals=3, parties=9)
    admission, here, now = Admission(bounds), list[Turn](), 0
    told = list[Told]()
    for what, which, cost in steps:
        if what == "arrive":
            turn = Turn(str(which), cost, told.append)
            admission.arrive(turn, now)
            here.append(turn)
        elif what == "leave" and here:
            admission.leave(here.pop(which % len(here)))
        elif what == "fine":
            admission.fine(str(which), cost)
        elif what == "pass":
            now += which
        waiting = Counter(turn.party for turn in here if turn.told is None)
        working = [turn for turn in here if turn.told == ADMITTED]
        assert admission.waiting == waiting.total() <= bounds.waiting
        assert max(waiting.values(), default=0) <= bounds.each
        assert admission.working == len(working) <= bounds.working
        assert not waiting or len(working) == bounds.working
        assert admission.parties <= bounds.parties
        assert len(told) == admission.figures.total()
    for turn in list(here):
        admission.leave(turn)
    assert (admission.waiting, admission.working) == (0, 0)


async def test_a_task_waits_at_the_gate_until_another_has_left() -> None:
    gate, order = Gate(Bounds(working=1), VirtualClock(0), "gate"), list[str]()
    first_may_go = asyncio.Event()

    async def visit(name: str) -> None:
        async with gate.turn(name, 1) as told:
            order.append(f"{name} {told.verdict}")
            await first_may_go.wait()

    tasks = [asyncio.create_task(visit(name)) for name in "ab"]
    await asyncio.sleep(0)
    assert (order, gate.admission.waiting) == (["a admitted"], 1)
    first_may_go.set()
    await asyncio.gather(*tasks)
    assert order == ["a admitted", "b admitted"]


async def test_who_is_cancelled_at_the_gate_leaves_no_trace() -> None:
    gate = Gate(Bounds(working=1), VirtualClock(0), "gate")

    async def visit() -> None:
        async with gate.turn("b", 1):
            pass

    async with gate.turn("a", 1):
        waiting, called = asyncio.create_task(visit()), asyncio.create_task(visit())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(0)
        called.cancel()  # and called at the same moment, below
    await asyncio.gather(waiting, called, return_exceptions=True)
    assert (gate.admission.waiting, gate.admission.working) == (0, 0)
    await visit()


async def test_the_log_tells_of_a_flood_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    clock = VirtualClock(1_000_000)
    gate = Gate(Bounds(rate=1, burst=1), clock, "requests by client id")
    for milliseconds in (0, 1, 59_000, 998, 1, 1):
        clock.advance(milliseconds)
        for _ in range(3):
            async with gate.turn("a", 1):
                pass
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert lines[0].startswith("requests by client id: more requests than are taken in; so far 1 admitted, 1 refused")
