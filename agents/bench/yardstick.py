"""The yardstick: what `openssl speed` says of RSA-2048 on this machine, now."""

import asyncio
import contextlib
import os
import shutil
from typing import Final, NamedTuple, Self

from .failure import BenchFailed

SECONDS: Final = 2
"""How long openssl takes for each of its four figures."""


class Rsa(NamedTuple):
    """RSA-2048 operations in a second."""

    private: float
    public: float


class Yardstick(NamedTuple):
    """What one core does alone, and what all do at once."""

    one: Rsa
    all: Rsa

    @classmethod
    def mean(cls, first: Self, second: Self) -> "Yardstick":
        """Return the mean of two measurements, one before and one after what is to be judged by them."""
        return Yardstick(_mean(first.one, second.one), _mean(first.all, second.all))


def _mean(first: Rsa, second: Rsa) -> Rsa:
    return Rsa((first.private + second.private) / 2, (first.public + second.public) / 2)


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


async def measure_openssl() -> Yardstick:
    """Run `openssl speed rsa2048` on one core, then on all.

    Raises:
        BenchFailed: if openssl is not installed, or says something else than expected.
    """
    one = await _speed()
    return Yardstick(one, one if cores() == 1 else await _speed("-multi", str(cores())))


async def _speed(*options: str) -> Rsa:
    program = shutil.which("openssl")
    if program is None:
        raise BenchFailed("openssl is not installed, and it is what the figures are compared to: apt install openssl")
    command = [program, "speed", "-mr", "-seconds", str(SECONDS), *options, "rsa2048"]
    pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*command, stdin=null, stdout=pipe, stderr=null)
    try:
        output, _ = await process.communicate()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    return read_speed(output.decode(errors="replace"))


def read_speed(output: str) -> Rsa:
    """Read what `openssl speed -mr rsa2048` prints: `+F2:<number>:<bits>:<signatures/s>:<verifications/s>`.

    Raises:
        BenchFailed: if there is no such line.
    """
    for line in reversed(output.splitlines()):
        if line.startswith("+F2:"):
            with contextlib.suppress(ValueError, IndexError):
                fields = line.split(":")
                return Rsa(float(fields[3]), float(fields[4]))
    raise BenchFailed("openssl speed printed no figures for rsa2048")
