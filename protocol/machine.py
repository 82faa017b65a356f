"""What all machines share.

An exchange is a pure `step(state, event) -> (state, effects)` beside a table `TRANSITIONS` of what may happen. States
are frozen and hold exactly what is known in them; they encode themselves, so that an agent can store them. Time and
randomness come in with events; what must happen outside goes out as effects, which the agent lets out only after the
new state is durable.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Annotated, Final, TypeAlias

import msgspec


class State(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Base of the states of all machines."""


class Event(msgspec.Struct, frozen=True):
    """Base of all events."""


class Effect(msgspec.Struct, frozen=True):
    """Base of all effects."""


Transitions: TypeAlias = Mapping[tuple[type[State], type[Event]], frozenset[type[State]]]

STAY: Final[tuple[type[State], ...]] = ()


def arrows(
    *rows: tuple[Sequence[type[State]], Sequence[type[Event]], Sequence[type[State]]],
) -> Transitions:
    """Return a table: each row says that any of these events in any of these states leads to one of those states.

    `STAY` stands for the state itself.
    """
    return {
        (state, event): frozenset(targets or (state,))
        for states, events, targets in rows
        for state, event in product(states, events)
    }


Jitter = Annotated[int, msgspec.Meta(ge=0, le=1000)]
"""Thousandths, drawn at random by the agent for each event that may need it."""


class Send(Effect, frozen=True):
    """Publish a sealed request: to `to` (a bank or a merchant), of this kind. The same bytes each time it is sent."""

    to: str
    kind: str
    request_id: bytes
    envelope: bytes
    attempt: int


class WakeAt(Effect, frozen=True):
    """Feed `Overdue` at this time (milliseconds since 1970)."""

    at: int


class Overdue(Event, frozen=True):
    """The time that the machine asked to be woken at has come, or may have: it looks at `now` itself."""

    now: int
    jitter: Jitter


_FIRST_WAIT: Final = 1_000
_LONGEST_WAIT: Final = 60_000


def backoff(attempt: int, jitter: int) -> int:
    """Return how many milliseconds to wait after the `attempt`-th sending (from 0): doubling, capped, jittered.

    1 s, 2 s, 4 s … at most 60 s, of which the last half is drawn: jitter 0 gives half, 1000 the whole.
    """
    longest = min(_LONGEST_WAIT, _FIRST_WAIT << min(attempt, 16))
    return longest // 2 + longest * jitter // 2000


def resume_at(now: int, retry_after: int, jitter: int) -> int:
    """Return when a request may go out again whose receiver asks for a pause of `retry_after` milliseconds.

    Not before it is over, and, by the jitter, up to as much later, lest all that were turned away come back at once.
    Never later than the longest of `backoff`'s waits: who asks for pauses without end gains no more than by silence.
    """
    pause = min(retry_after, _LONGEST_WAIT)
    return now + min(_LONGEST_WAIT, pause + pause * jitter // 1000)
