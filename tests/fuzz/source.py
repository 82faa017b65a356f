"""The inputs of a target: what was found before, good ones, hostile ones, and changes of all of them."""

import itertools
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from .target import Target

CORPUS: Final = Path(__file__).parent / "corpus"
"""Inputs that were a finding once, in a folder for each target."""
SWEEP_FROM: Final = 2_000
"""Fewer inputs than this are drawn at random from the first; else each field is swept before that."""
_MOST_LEARNT: Final = 50
_LONGEST_LEARNT: Final = 10_000


def slug(name: str) -> str:
    """Return the name of a target's folder in the corpus."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def kept(target: Target) -> list[bytes]:
    """Return what was found in a target, by the names of the files."""
    folder = CORPUS / slug(target.name)
    return [path.read_bytes() for path in sorted(folder.glob("*.bin"))]


class Source:
    """The inputs of a target, the same for the same `rng`; `most` is how many will be asked for."""

    def __init__(self, target: Target, rng: random.Random, most: int) -> None:
        self._form = target.form
        self._rng = rng
        self._pool = list(target.seeds)
        hostile = self._form.hostile
        first = [*kept(target), *target.seeds, *(hostile if most >= SWEEP_FROM else rng.sample(hostile, 4))]
        swept = (self._form.sweep(good) for good in target.seeds) if most >= SWEEP_FROM else ()
        self._planned: Iterator[bytes] = itertools.chain(first, itertools.chain.from_iterable(swept))

    def draw(self) -> bytes:
        """Return the next input."""
        planned = next(self._planned, None)
        return self._form.mutate(self._rng.choice(self._pool), self._rng) if planned is None else planned

    def learn(self, data: bytes, *, taken: bool) -> None:
        """Go on from an input that was taken, and now and then from another one."""
        fits = len(self._pool) < _MOST_LEARNT and len(data) < _LONGEST_LEARNT
        if fits and self._rng.random() < (0.2 if taken else 0.01):
            self._pool.append(data)
