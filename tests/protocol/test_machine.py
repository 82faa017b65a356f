from hypothesis import given
from hypothesis import strategies as st

from protocol.machine import STAY, Event, State, arrows, backoff, resume_at
from tests.world import NOW


class Here(State, frozen=True):
    pass


class There(State, frozen=True):
    pass


class Go(Event, frozen=True):
    pass


class Wait(Event, frozen=True):
    pass


def test_a_row_leads_from_each_of_its_states_by_each_of_its_events_to_all_of_its_targets() -> None:
    table = arrows(([Here, There], [Go, Wait], [Here, There]))
    both = frozenset({Here, There})
    assert table == {(Here, Go): both, (Here, Wait): both, (There, Go): both, (There, Wait): both}


def test_to_stay_is_to_lead_back_to_each_state_itself() -> None:
    assert arrows(([Here, There], [Wait], STAY)) == {
        (Here, Wait): frozenset({Here}),
        (There, Wait): frozenset({There}),
    }


def test_waiting_doubles_from_half_a_second_or_one_to_a_minute() -> None:
    assert [backoff(attempt, 1000) for attempt in range(8)] == [
        1_000,
        2_000,
        4_000,
        8_000,
        16_000,
        32_000,
        60_000,
        60_000,
    ]
    assert [backoff(attempt, 0) for attempt in (0, 1, 6)] == [500, 1_000, 30_000]


@given(st.integers(0, 10**9), st.integers(0, 999))
def test_waiting_grows_with_attempt_and_jitter_within_its_bounds(attempt: int, jitter: int) -> None:
    wait = backoff(attempt, jitter)
    assert 500 <= wait <= 60_000
    assert wait <= backoff(attempt + 1, jitter)
    assert wait <= backoff(attempt, jitter + 1) <= 2 * backoff(attempt, 0)


@given(st.integers(0, 10**6), st.integers(0, 1000))
def test_a_pause_is_kept_and_drawn_out_but_never_longer_than_the_longest_wait(retry_after: int, jitter: int) -> None:
    wait = resume_at(NOW, retry_after, jitter) - NOW
    assert min(retry_after, 60_000) <= wait <= 60_000
    assert wait <= 2 * retry_after


def test_who_were_turned_away_together_come_back_one_by_one() -> None:
    assert [resume_at(NOW, 10_000, jitter) - NOW for jitter in (0, 500, 1000)] == [10_000, 15_000, 20_000]
