"""Randomness that is the same in every run."""

import random


class SeededEntropy:
    """An `agents.world.Entropy` that is determined by its seed."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)

    def bytes(self, length: int) -> bytes:
        return self._random.randbytes(length)

    def jitter(self) -> int:
        return self._random.randint(0, 1000)
