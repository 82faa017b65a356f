"""Admission: whose request is served next, and whose is turned away, when more come than can be served.

Parties are told apart by what cannot be feigned: the client id on the topic, for which the broker vouches, before
anything is opened; then the key that signed. To each the same rules apply:

- *Rate*: a token bucket. A request costs units; who has used up its own is turned away before any work is done for it.
- *Order*: start-time fair queueing (Goyal, Vin, Cheng 1996): of those who wait, the party is next that has had least.
  However much one sends, another's first request waits for one request of each party at the most.
- *Bounds*: on how many requests of a party wait, on how many wait in all, and on how many are worked on. When all
  places are taken, the newest request of the party that has most of them gives its place up.

A party that is turned away is told once how long to wait. What it sends meanwhile is dropped unopened, and so is what
is beyond the number of such answers that can be afforded.
"""

import asyncio
import logging
import math
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from protocol.answer import MAX_RETRY_AFTER

from .world import Clock

_log = logging.getLogger("ecash.admission")
_FULL_MS: Final = 1_000
"""The pause that is asked for when places are lacking: as long as a sender's first wait."""
_REPORT_MS: Final = 60_000
_LINE_UNITS: Final = 16


class Bounds(msgspec.Struct, frozen=True):
    """How much is taken in. A unit is about two milliseconds of work: a small request, or three coins to sign.

    Attributes:
        rate: units a second that one party may use for long.
        burst: units that it may use at once after a rest.
        each: requests of one party that wait.
        waiting: requests of all that wait.
        working: requests of all that are worked on.
        refusals: answers a second that tell somebody to wait; what is beyond is dropped.
        parties: how many are remembered; who was silent for longest is forgotten first, and begins anew.

    Raises:
        ValueError: if one is not positive, or fewer parties are remembered than can have requests here.
    """

    rate: int = 200
    burst: int = 400
    each: int = 32
    waiting: int = 256
    working: int = 32
    refusals: int = 100
    parties: int = 10_000

    def __post_init__(self) -> None:
        """Refuse to take in nothing."""
        if min(msgspec.structs.astuple(self)) < 1:
            raise ValueError("each limit of what is taken in is at least 1")
        if self.parties <= self.waiting + self.working:
            raise ValueError("more parties must be remembered than can have requests waiting or worked on")


class AdmissionSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The settings of an agent about how many requests it takes in; see `Bounds`.

    Raises:
        ValueError: as `Bounds`.
    """

    request_rate: int = 200
    request_burst: int = 400
    requests_each: int = 32
    requests_waiting: int = 256
    requests_working: int = 32

    def __post_init__(self) -> None:
        """Refuse bounds that are none."""
        self.bounds()

    def bounds(self) -> Bounds:
        """Return them as bounds."""
        return Bounds(
            rate=self.request_rate,
            burst=self.request_burst,
            each=self.requests_each,
            waiting=self.requests_waiting,
            working=self.requests_working,
        )


UNHURRIED: Final = Bounds(rate=10**9, burst=10**9)
"""Places and order as usual, but no party has a rate."""


class Verdict(StrEnum):
    """What becomes of a request; the names are those of the figures."""

    ADMITTED = "admitted"
    REFUSED = "refused"
    DROPPED = "dropped"


class Told(NamedTuple):
    """A verdict, and for a refusal how many milliseconds to wait before the next try."""

    verdict: Verdict
    retry_after: int = 0


@dataclass(slots=True, eq=False)
class Turn:
    """One request's turn: `tell` is called once, at once or later."""

    party: str
    cost: int
    tell: Callable[[Told], None]
    told: Told | None = None


@dataclass(slots=True, eq=False)
class _Bucket:
    """A token bucket, as full as it was at a time."""

    tokens: float
    at: int

    def refill(self, now: int, rate: int, burst: int) -> None:
        """Add what has come together since."""
        self.tokens = min(burst, self.tokens + max(0, now - self.at) * rate / 1000)
        self.at = now


@dataclass(slots=True, eq=False)
class _Party(_Bucket):
    """What is known of a party; `finish` is its virtual time, in units: how much it has had."""

    finish: float = 0.0
    quiet_until: int = 0
    working: int = 0
    waiting: deque[Turn] = field(default_factory=deque)


class Admission:
    """The rules, without clock and waiting.

    Times are milliseconds. A clock that is set back delays nobody: what was saved stays, and a party is kept quiet for
    no longer than it was told.

    Attributes:
        figures: how many requests came to each verdict.
    """

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.figures: Counter[Verdict] = Counter()
        self._parties: OrderedDict[str, _Party] = OrderedDict()
        self._lining: dict[str, _Party] = {}
        self._waiting = 0
        self._working = 0
        self._served = 0.0
        self._refusals = _Bucket(tokens=bounds.refusals, at=0)

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return self._waiting

    @property
    def working(self) -> int:
        """How many requests were admitted and have not left."""
        return self._working

    @property
    def parties(self) -> int:
        """How many parties are remembered."""
        return len(self._parties)

    def arrive(self, turn: Turn, now: int) -> None:
        """Take a request in: its turn is told, now or when it comes, unless it leaves before."""
        bounds, party = self.bounds, self._party(turn.party, now)
        turn.cost = min(turn.cost, bounds.burst)
        if party.tokens < turn.cost:
            self._turn_away(turn, party, math.ceil((turn.cost - party.tokens) * 1000 / bounds.rate), now)
        elif len(party.waiting) >= bounds.each or not self._has_place(party, now):
            self._turn_away(turn, party, _FULL_MS, now)
        else:
            party.tokens -= turn.cost
            party.waiting.append(turn)
            self._lining[turn.party] = party
            self._waiting += 1
            self._call()

    def leave(self, turn: Turn) -> None:
        """Give a turn back: its work is done, or nobody waits for it any more."""
        if turn.told is not None and turn.told.verdict is not Verdict.ADMITTED:
            return
        party = self._parties[turn.party]  # who has requests here is not forgotten
        if turn.told is None:
            party.waiting.remove(turn)
            self._left(turn.party, party)
            party.tokens += turn.cost
        else:
            party.working -= 1
            self._working -= 1
        self._call()

    def fine(self, name: str, cost: int) -> None:
        """Take units from a party for work that it has caused in vain; it can owe as much as a burst."""
        if name in self._parties:
            party = self._parties[name]
            party.tokens = max(party.tokens - cost, -self.bounds.burst)

    def _party(self, name: str, now: int) -> _Party:
        """Return a party, with what it has saved since the last time; if there are too many, forget the idlest."""
        bounds = self.bounds
        party = self._parties.get(name)
        if party is None:
            party = self._parties[name] = _Party(bounds.burst, now)
            if len(self._parties) > bounds.parties:
                idlest = next(one for one, its in self._parties.items() if not its.waiting and not its.working)
                del self._parties[idlest]
        else:
            self._parties.move_to_end(name)
            party.refill(now, bounds.rate, bounds.burst)
        return party

    def _has_place(self, party: _Party, now: int) -> bool:
        """Tell whether another request of a party may wait; if need be, who has most of the places gives one up."""
        if self._waiting < self.bounds.waiting:
            return True
        name, most = max(self._lining.items(), key=lambda one: len(one[1].waiting))
        if len(most.waiting) <= len(party.waiting) + 1:
            return False
        shed = most.waiting.pop()
        self._left(name, most)
        most.tokens += shed.cost
        self._turn_away(shed, most, _FULL_MS, now)
        return True

    def _left(self, name: str, party: _Party) -> None:
        self._waiting -= 1
        if not party.waiting:
            del self._lining[name]

    def _call(self) -> None:
        """Admit who is next, for as long as there are hands free."""
        while self._lining and self._working < self.bounds.working:
            name, party = min(self._lining.items(), key=lambda one: max(one[1].finish, self._served))
            turn = party.waiting.popleft()
            self._left(name, party)
            self._served = max(party.finish, self._served)
            party.finish = self._served + turn.cost
            party.working += 1
            self._working += 1
            self._tell(turn, Told(Verdict.ADMITTED))

    def _turn_away(self, turn: Turn, party: _Party, wait_ms: int, now: int) -> None:
        budget = self._refusals
        budget.refill(now, self.bounds.refusals, self.bounds.refusals)
        quiet = 0 < party.quiet_until - now <= MAX_RETRY_AFTER  # more is left only of a clock that was set back
        if quiet or budget.tokens < 1:
            self._tell(turn, Told(Verdict.DROPPED))
            return
        budget.tokens -= 1
        wait_ms = min(wait_ms, MAX_RETRY_AFTER)
        party.quiet_until = now + wait_ms
        self._tell(turn, Told(Verdict.REFUSED, wait_ms))

    def _tell(self, turn: Turn, told: Told) -> None:
        self.figures[told.verdict] += 1
        turn.told = told
        turn.tell(told)


class Gate:
    """Admission for tasks: each request's task waits here for its turn.

    Acknowledgements leave a link in order of arrival and after the work, so one who waits here holds back those of all
    that came later, though they may have been answered already, and the broker need not send more than its window ahead
    of them. So a flooder's rate bounds how long it can hold the others up here. What comes faster than the link can be
    read at all waits at the broker, in order of arrival, or is dropped there: no agent can be fair to that, and whoever
    lost a request by it repeats it. If the process dies, what was not acknowledged comes again, and is judged anew.

    Args:
        bounds: what is taken in.
        clock: the agent's.
        name: what the figures in the log are called.
    """

    def __init__(self, bounds: Bounds, clock: Clock, name: str) -> None:
        self.admission = Admission(bounds)
        self._clock = clock
        self._name = name
        self._reported = 0
        self._lines = _Bucket(tokens=bounds.burst, at=0)

    @asynccontextmanager
    async def turn(self, party: str, cost: int) -> AsyncIterator[Told]:
        """Wait for a party's turn, and hold a place until the work in the block is done."""
        told: asyncio.Future[Told] = asyncio.get_running_loop().create_future()

        def tell(verdict: Told) -> None:
            if not told.done():  # cancelled at this moment: it is about to leave
                told.set_result(verdict)

        turn = Turn(party, cost, tell)
        self.admission.arrive(turn, self._clock.now())
        try:
            verdict = await told
            if verdict.verdict is not Verdict.ADMITTED:
                self._report()
            yield verdict
        finally:
            self.admission.leave(turn)

    def worth_a_line(self) -> bool:
        """Tell whether the log has room for a line about junk; all parties together have one party's units for it."""
        bounds = self.admission.bounds
        self._lines.refill(self._clock.now(), bounds.rate, bounds.burst)
        cost = min(_LINE_UNITS, bounds.burst)
        if self._lines.tokens < cost:
            return False
        self._lines.tokens -= cost
        return True

    def _report(self) -> None:
        """Log the figures, at most once a minute: a flood of requests must not become one of lines."""
        now = self._clock.now()
        if not 0 <= now - self._reported < _REPORT_MS:
            self._reported = now
            figures = self.admission.figures
            told = ", ".join(f"{figures[verdict]} {verdict}" for verdict in Verdict)
            waiting = self.admission.waiting
            _log.warning("%s: more requests than are taken in; so far %s, %d waiting", self._name, told, waiting)


def units(payload: bytes, base: int = 1, unit_bytes: int = 4_096) -> int:
    """Return what a request costs before it is opened: `base` for its kind, and its size.

    Whoever wants many coins handled must send them: a coin to be signed takes 300 bytes, a spent one 400.
    """
    return base + len(payload) // unit_bytes
