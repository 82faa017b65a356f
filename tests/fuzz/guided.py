"""The same targets under atheris (libFuzzer), guided by what the inputs reach in `protocol` and `agents`."""

import asyncio
import importlib
import logging
import random
import sys
import tempfile
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path


def run_guided(seed: int, seconds: int) -> int:
    """Fuzz; libFuzzer ends the process itself, with the input in a file if something escapes."""
    logging.disable(logging.ERROR)
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["protocol", "agents"]):
        from .fuzz import try_one
        from .mutate import mutate
        from .targets import fuzzing_range
    outcomes, loop, stack = Counter[tuple[str, str]](), asyncio.new_event_loop(), AsyncExitStack()
    folder = tempfile.mkdtemp(prefix="ecash-fuzz-")
    _, _, targets = loop.run_until_complete(stack.enter_async_context(fuzzing_range(Path(folder))))

    def one(data: bytes) -> None:
        target = targets[data[0] % len(targets)] if data else targets[0]
        finding = loop.run_until_complete(try_one(target, data[1:], outcomes))
        if finding is not None:
            sys.stdout.write(f"ESCAPED from {finding.target}: {finding.data.hex()}\n")
            raise finding.error

    def mutator(data: bytes, limit: int, draw: int) -> bytes:
        rng = random.Random(draw)
        if rng.random() < 0.1 or not data:
            index = rng.randrange(len(targets))
            return (bytes([index]) + rng.choice(list(targets[index].seeds)))[:limit]
        return (data[:1] + mutate(data[1:], rng))[:limit]

    arguments = [sys.argv[0], f"-seed={seed}", f"-max_total_time={seconds}", "-max_len=65536", "-timeout=20"]
    atheris.Setup(arguments, one, custom_mutator=mutator)
    atheris.Fuzz()
    return 0
