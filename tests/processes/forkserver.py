"""A process that has imported all agents, and forks a child for each command that it is asked to run.

Usage: python forkserver.py <descriptor of a sequenced-packet socket>

A request is JSON, [module, arguments, environment], with three descriptors: standard output, standard error, and a
pipe that takes the child's process id, and when it has ended its exit code. See `forked.py`, where requests are made.
"""

import functools
import gc
import importlib
import json
import os
import runpy
import select
import socket
import sys
from collections.abc import Sequence
from typing import Final

from typer.testing import CliRunner

from agents.bank import cli as bank
from agents.bank import signer
from agents.client import cli as wallet
from agents.merchant import cli as merchant

REQUEST_BYTES: Final = 1 << 17


def _warm_up() -> None:
    """Import all that a command needs; half of that is imported when the first one is parsed."""
    for app, command in ((bank.app, "accounts"), (merchant.app, "sales"), (wallet.app, "balance")):
        assert CliRunner().invoke(app, [command, "--home", os.devnull]).exit_code != 0
    # To find out again whether the primes of the bank's keys are prime is most of what its start costs.
    signer.load_der_private_key = functools.partial(  # type: ignore[attr-defined]
        signer.load_der_private_key,  # type: ignore[attr-defined]
        unsafe_skip_rsa_key_validation=True,
    )
    # Whatever is open is carried on for seconds by the next command; here it ends, however busy the machine is.
    opening = importlib.import_module("agents.client.cli.app")
    opening.resume = functools.partial(opening.resume, patience_ms=60_000)  # type: ignore[attr-defined]


class _Children:
    """The children that have not ended, each with the pipe of its report."""

    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests
        self._reports: dict[int, tuple[int, int]] = {}
        self._ready = select.poll()
        self._ready.register(requests, select.POLLIN)

    def serve(self) -> bytes:
        """Fork a child for each request; return in each child, with the request, when its outputs are in place.

        Raises:
            SystemExit: in the server itself, when nobody can ask for anything any more.
        """
        while True:
            for descriptor, _ in self._ready.poll():
                if descriptor in self._reports:
                    self._report(descriptor)
                    continue
                request, outputs, _, _ = socket.recv_fds(self._requests, REQUEST_BYTES, 3)
                if not request:
                    sys.exit()
                pid = os.fork()
                if pid == 0:
                    self._forget(outputs)
                    return request
                self._watch(pid, outputs)

    def _watch(self, pid: int, outputs: Sequence[int]) -> None:
        stdout, stderr, report = outputs
        os.close(stdout)
        os.close(stderr)
        os.write(report, f"{pid}\n".encode())
        descriptor = os.pidfd_open(pid)
        self._reports[descriptor] = pid, report
        self._ready.register(descriptor, select.POLLIN)

    def _report(self, descriptor: int) -> None:
        pid, report = self._reports.pop(descriptor)
        self._ready.unregister(descriptor)
        _, status = os.waitpid(pid, 0)
        os.write(report, str(os.waitstatus_to_exitcode(status)).encode())
        os.close(report)
        os.close(descriptor)

    def _forget(self, outputs: Sequence[int]) -> None:
        """Keep nothing of the server's; for a child."""
        self._requests.close()
        for descriptor, (_, report) in self._reports.items():
            os.close(descriptor)
            os.close(report)
        for number, output in enumerate(outputs[:2], start=1):
            os.dup2(output, number)
        for output in outputs:
            os.close(output)


def _main() -> None:
    _warm_up()
    gc.collect()
    gc.freeze()  # so that no child copies what all have in common, only to look for garbage in it
    request = _Children(socket.socket(fileno=int(sys.argv[1]))).serve()
    module, arguments, environment = json.loads(request)
    os.environ.clear()
    os.environ.update(environment)
    importlib.reload(importlib.import_module("agents.trace"))  # it has read the server's environment
    sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main()
