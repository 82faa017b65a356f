"""What a seed draws before its world begins: who lives there, what is bad, and how much of it."""

from random import Random
from typing import Final, NamedTuple

LASTING: Final = (
    "slow disk",
    "failing disk",
    "full disk",
    "bad weather",
    "delay for days",
    "bit flips",
    "partition",
    "one direction",
    "broker restart",
    "broker forgets sessions",
    "broker forgets all",
)
"""The kinds of fault that hold for a while, in which anything may be under way."""
EPISODES: Final = (
    "crash at a step",
    "crash at a point",
    "power cut",
    *LASTING,
    "clock skew",
    "clock back",
    "replay",
)
"""The kinds of fault; each world has some of them."""


class Plan(NamedTuple):
    """A world in short. `episodes` are the kinds of fault that there are, `fault_rate` how many for each operation."""

    seed: int
    banks: tuple[str, ...]
    shops: tuple[str, ...]
    wallets: tuple[str, ...]
    tariff: str
    epochs: str
    shared_lanes: bool
    episodes: tuple[str, ...]
    fault_rate: float
    operations: int
    restores: bool
    rotations: bool
    long_waits: bool

    def __str__(self) -> str:
        """Say it in a line."""
        who = ", ".join((*self.banks, *self.shops, *self.wallets))
        lanes = "the same lanes" if self.shared_lanes else "half of the lanes each"
        faults = ", ".join(self.episodes) or "none"
        return f"{who}; tariff {self.tariff}, epochs {self.epochs}, two workers with {lanes}; faults: {faults}"


def draw(seed: int) -> Plan:
    """Draw a world: a random subset of the faults, at a random rate (after swarm testing)."""
    random = Random(f"plan {seed}")
    calm = random.random() < 0.05
    chosen = tuple(kind for kind in EPISODES if random.random() < 0.45) if not calm else ()
    return Plan(
        seed=seed,
        banks=("north", "south") if random.random() < 0.2 else ("north",),
        shops=("bookshop", "bakery") if random.random() < 0.25 else ("bookshop",),
        wallets=("alice", "bob", "carol")[: random.choice((2, 2, 3))],
        tariff=random.choice(("free", "free", "dear")),
        epochs="short" if random.random() < 0.3 else "long",
        shared_lanes=random.random() < 0.4,
        episodes=chosen,
        fault_rate=random.choice((0.3, 0.7, 1.2)) if chosen else 0.0,
        operations=random.randint(4, 8),
        restores=random.random() < 0.4,
        rotations=random.random() < 0.5,
        long_waits=random.random() < 0.4,
    )
