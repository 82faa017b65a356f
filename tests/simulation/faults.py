"""Episodes of trouble: each begins with an operation of somebody, lasts for a while, and is over."""

import asyncio
import sqlite3
from collections.abc import Callable
from random import Random
from typing import Final

from .coverage import POINTS
from .disk import cut_power, fill
from .houses import BankHouse
from .loop import NOBODY
from .process import Life
from .world import World

_DAY_S: Final = 86_400.0
_REPLAY_LATER_S: Final = (0.0, _DAY_S, 8 * _DAY_S, 40 * _DAY_S, 400 * _DAY_S)
_SALE: Final = (".pay.", ".deposit", ".sold.", ".order.")
SUBJECTS: Final[dict[str, tuple[str, ...]]] = {
    "withdraw": (".withdraw.",),
    "buy": _SALE,
    "spend twice": _SALE,
    "refund": (".refund.",),
    "redeem": (".redeem.",),
    "give": (".transfer.", ".exchange."),
    "receive": (".exchange.",),
    "tend": (".exchange.",),
    "recover": (".recover.", ".fetch."),
}
"""What the trace points of an operation have in their names; all have a dot."""


class Trouble:
    """What makes trouble in a world, as its plan says."""

    def __init__(self, world: World, banks: list[BankHouse]) -> None:
        self._world = world
        self._banks = banks
        self._random = Random(f"trouble {world.plan.seed}")
        self._kind = self._actor = ""
        self._subjects: tuple[str, ...] = ()
        self._undo: list[Callable[[], None]] = []
        self._kinds: dict[str, Callable[[], None]] = {
            "crash at a step": self._crash_at_a_step,
            "crash at a point": self._crash_at_a_point,
            "power cut": self._cut_power,
            "slow disk": self._slow_disk,
            "failing disk": self._failing_disk,
            "full disk": self._full_disk,
            "bad weather": self._bad_weather,
            "delay for days": self._delay_for_days,
            "bit flips": self._bit_flips,
            "partition": self._partition,
            "one direction": self._one_direction,
            "broker restart": lambda: self._broker_restart(forget_sessions=False, forget_retained=False),
            "broker forgets sessions": lambda: self._broker_restart(forget_sessions=True, forget_retained=False),
            "broker forgets all": lambda: self._broker_restart(forget_sessions=True, forget_retained=True),
            "clock skew": self._clock_skew,
            "clock back": self._clock_back,
            "replay": self._replay,
        }

    def perhaps(self, actor: str, what: str) -> None:
        """Begin no, one or several episodes, when somebody begins to do something."""
        self._actor, self._subjects = actor, (*SUBJECTS.get(what, (".",)), ".books.")
        plan, rate = self._world.plan, self._world.plan.fault_rate
        while plan.episodes and not self._world.calm and self._random.random() < rate:
            kind = self._random.choice(plan.episodes)
            self._world.fault(kind, "begins")
            self._kind = kind
            self._kinds[kind]()
            rate -= 0.4

    def end(self) -> None:
        """End all that lasts."""
        for undo in list(self._undo):
            undo()

    def _for_a_while(self, undo: Callable[[], object]) -> None:
        kind, active = self._kind, self._world.active
        active[kind] += 1

        def over() -> None:
            if over in self._undo:
                self._undo.remove(over)
                active[kind] -= 1
                undo()

        self._undo.append(over)
        duration = self._random.choice((0.5, 5.0, 60.0, 1_000.0, 20_000.0))
        asyncio.get_running_loop().call_later(duration, over, context=NOBODY)

    def _life(self) -> Life:
        """Choose whom it befalls: half of the time whoever is about to do something."""
        name = self._random.choice(sorted(self._world.lives))
        return self._world.lives[self._actor if self._random.random() < 0.4 else name]

    def _crash_at_a_step(self) -> None:
        life = self._life()
        life.doom = life.steps + int(self._random.choice((3, 30, 300)) * self._random.random()) + 1

    def _crash_at_a_point(self) -> None:
        life = self._life()
        possible = [point for point in POINTS if _is_of(life.name, point, self._banks)]
        fitting = [point for point in possible if any(one in point for one in self._subjects)] or possible
        if fitting:
            life.crash_at(self._random.choice(fitting), self._random.choice((1, 1, 1, 2)))

    def _cut_power(self) -> None:
        house = self._random.choice(self._banks)
        names = self._random.choice((house.workers, (self._life().name,)))
        lives = [self._world.lives[name] for name in names]
        loop = asyncio.get_running_loop()

        def cut() -> None:
            lost = cut_power(lives, lambda commits: self._random.randint(0, commits))
            self._world.counts["files that lost commits at a power cut"] += len(lost)

        loop.call_later(self._random.choice((0.01, 0.1, 1.0)), cut, context=NOBODY)

    def _slow_disk(self) -> None:
        life, slowest = self._life(), self._random.choice((0.05, 1.0, 10.0))
        life.disk.delay = lambda: self._random.random() * slowest
        self._for_a_while(lambda: setattr(life.disk, "delay", lambda: 0.0))

    def _failing_disk(self) -> None:
        life, rate = self._life(), self._random.choice((0.01, 0.1, 1.0))

        def fails(statement: str) -> sqlite3.OperationalError | None:
            if statement.split(" ", 1)[0] in {"COMMIT", "BEGIN", "INSERT"} and self._random.random() < rate:
                error = sqlite3.OperationalError("disk I/O error")
                error.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
                self._world.fault("disk error", f"{life.name}: {statement[:30]}")
                return error
            return None

        life.disk.fails = fails
        self._for_a_while(lambda: setattr(life.disk, "fails", lambda _: None))

    def _full_disk(self) -> None:
        life = self._life()
        fill(life, full=True)
        self._for_a_while(lambda: fill(life, full=False))

    def _bad_weather(self) -> None:
        weather = self._world.network.weather
        weather.loss = self._random.choice((0.0, 0.05, 0.3))
        weather.duplication = self._random.choice((0.0, 0.1, 0.5))
        weather.reordering = self._random.choice((0.0, 0.3, 0.8))
        weather.slowest_s = self._random.choice((0.1, 2.0, 15.0))
        self._for_a_while(lambda: _clear(weather, "loss", "duplication", "reordering"))

    def _delay_for_days(self) -> None:
        weather = self._world.network.weather
        weather.days_late = 0.1
        self._for_a_while(lambda: _clear(weather, "days_late"))

    def _bit_flips(self) -> None:
        weather = self._world.network.weather
        weather.garbling = self._random.choice((0.02, 0.1))
        self._for_a_while(lambda: _clear(weather, "garbling"))

    def _partition(self) -> None:
        network, name = self._world.network, self._random.choice((self._life().name, *self._world.plan.shops))
        network.cut_from(name)
        self._for_a_while(lambda: network.cut_off.discard(name))

    def _one_direction(self) -> None:
        network, name = self._world.network, self._life().name
        lost = self._random.choice((network.deaf, network.mute))
        lost.add(name)
        self._for_a_while(lambda: lost.discard(name))

    def _broker_restart(self, *, forget_sessions: bool, forget_retained: bool) -> None:
        network = self._world.network
        network.stop(forget_sessions=forget_sessions, forget_retained=forget_retained)
        self._for_a_while(lambda: setattr(network, "up", True))

    def _clock_skew(self) -> None:
        name = self._whose_clock()
        self._world.skews[name] = self._random.choice((-1, 1)) * self._random.choice((1_000, 300_000, 86_400_000))
        self._for_a_while(lambda: self._world.skews.pop(name, None))

    def _clock_back(self) -> None:
        name = self._whose_clock()
        self._world.skews[name] = self._world.skews.get(name, 0) - self._random.choice((2_000, 600_000, 86_400_000))
        self._for_a_while(lambda: self._world.skews.pop(name, None))

    def _whose_clock(self) -> str:
        plan = self._world.plan
        return self._random.choice((*plan.banks, *plan.shops, *plan.wallets))

    def _replay(self) -> None:
        network = self._world.network
        later = self._random.choice(_REPLAY_LATER_S)
        for message in self._random.choices(network.recorded, k=5) if network.recorded else ():
            asyncio.get_running_loop().call_later(
                later + self._random.random(), network.replay, message, context=NOBODY
            )


def _clear(weather: object, *names: str) -> None:
    for name in names:
        setattr(weather, name, 0.0)


def _is_of(life: str, point: str, banks: list[BankHouse]) -> bool:
    """Tell whether a process can pass a trace point."""
    owner = point.partition(".")[0]
    if any(life in bank.workers for bank in banks):
        return owner == "bank"
    return owner == ("wallet" if life in {"alice", "bob", "carol"} else "merchant")
