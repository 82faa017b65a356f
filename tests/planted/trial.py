"""Breaks one rule in a process of its own, and runs who should notice."""

import contextlib
import importlib
import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Final

import pytest

from .plant import Rule, plant

_THEIRS: Final = (
    "_pytest.assertion.rewrite",
    "aiomqtt",
    "cryptography.hazmat.primitives.asymmetric.rsa",
    "cryptography.hazmat.primitives.hpke",
    "httpx",
    "hypothesis.stateful",
    "mnemonic",
    "msgspec",
    "nacl.bindings",
    "pytest_asyncio.plugin",
    "rich.console",
    "typer",
)
"""What takes long to import, and is none of ours: the trials are forked from a process that has it."""

_OPTIONS: Final = ("-x", "--tb=line", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")
_PLUGINS: Final = ("pytest_asyncio.plugin", "_hypothesis_pytestplugin")


@contextlib.contextmanager
def trials(at_once: int = 2) -> Iterator[ProcessPoolExecutor]:
    """Return where to submit `notice`: each call is carried out in a process that has imported nothing of ours."""
    context = get_context("forkserver")
    context.set_forkserver_preload(list(_THEIRS))
    with ProcessPoolExecutor(at_once, mp_context=context, max_tasks_per_child=1) as pool:
        yield pool


def notice(rule: Rule) -> tuple[bool, str]:
    """Break the rule; return whether it was noticed, and what was said about it."""
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    plant(rule)
    if isinstance(rule.caught_by, int):
        return _simulate(rule.caught_by)
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = pytest.main([rule.caught_by, *_OPTIONS], _PLUGINS)
    return code == pytest.ExitCode.TESTS_FAILED, said.getvalue()


def _simulate(seed: int) -> tuple[bool, str]:
    failures: Sequence[object] = importlib.import_module("tests.simulation.run").run_seed(seed).failures
    return bool(failures), "\n".join(map(str, failures))
