"""What is put into the production code while a world runs: its disks, its trace points, and eyes on its machines."""

import contextlib
import gc
import importlib
import logging
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Final

import agents.bank.desks.desk
import agents.bank.service
from agents import database, trace
from agents.client.machines import MACHINES
from protocol.envelope import EnvelopePrivateKey

from . import disk, quick
from .coverage import BANK, MERCHANT, WALLET, name_of
from .process import LIFE
from .quick import patch
from .world import World

LOOK_MS: Final = 4 * 3_600_000
"""How often a simulated bank looks for a new keyset: each second of many days would be most of the work."""


@contextlib.contextmanager
def simulated(world: World) -> Iterator[None]:
    """Let the production code live in a world."""
    with contextlib.ExitStack() as stack:
        _quietly(stack)
        patch(stack, agents.bank.service, "LOOK_MS", LOOK_MS)
        patch(stack, agents.bank.service, "TOTALS_MS", LOOK_MS)
        quick.quickly(stack)
        database.CONNECTIONS.append(disk.SimulatedConnection)
        stack.callback(database.CONNECTIONS.pop)
        disk.committed.append(world.dirty.add)
        stack.callback(disk.committed.pop)
        trace.watch(_passing(world))
        stack.callback(trace.watch, None)
        _watch_machines(stack, world)
        _watch_envelopes(stack, world)
        yield


def _quietly(stack: contextlib.ExitStack) -> None:
    """Log nothing, and let no coroutine of the dead be ended by the garbage collector."""
    logged = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    stack.callback(logging.disable, logged)
    if gc.isenabled():
        gc.disable()
        stack.callback(gc.enable)


def _passing(world: World) -> Callable[[str], None]:
    def passed(point: str) -> None:
        life = LIFE.get()
        world.counts[f"point: {point}"] += 1
        for kind, count in world.active.items():
            if count:
                world.counts[f"pair: {kind} × {point}"] += 1
        if life is not None:
            life.passes(point)

    return passed


def _watch_machines(stack: contextlib.ExitStack, world: World) -> None:
    def watched(name: str, step: Callable[..., Any]) -> Callable[..., Any]:
        def stepping(state: Any, event: Any, *more: Any) -> Any:
            result = step(state, event, *more)
            world.counts["transition: " + name_of(name, type(state), type(event), type(result[0]))] += 1
            return result

        return stepping

    for party, names in (("bank", BANK), ("merchant", MERCHANT)):
        for name in names:
            module: ModuleType = importlib.import_module(f"protocol.{party}.{name}")
            patch(stack, module, "step", watched(f"{party} {name}", module.step))
    for kind, name in WALLET.items():
        usual = MACHINES[kind]
        machines: Any = MACHINES
        machines[kind] = usual._replace(step=watched(f"wallet {name}", usual.step))
        stack.callback(machines.__setitem__, kind, usual)


def _watch_envelopes(stack: contextlib.ExitStack, world: World) -> None:
    """Let the world's listeners know what is decrypted, and what a bank says before it seals it."""
    desk: Any = agents.bank.desks.desk
    open_envelope, seal_answer = EnvelopePrivateKey.open, desk.seal_answer

    def opened(self: EnvelopePrivateKey, data: bytes, kind: str) -> bytes:
        plaintext = open_envelope(self, data, kind)
        world.knowledge.opened(self.key_id, kind, plaintext)
        return plaintext

    def sealed(seed: bytes, key: bytes, request_id: bytes, hashed: bytes, said: Any) -> bytes:
        data: bytes = seal_answer(seed, key, request_id, hashed, said)
        world.knowledge.said(data, request_id, hashed, said.refusal)
        return data

    patch(stack, EnvelopePrivateKey, "open", opened)
    patch(stack, desk, "seal_answer", sealed)
