"""The processes of the demonstration: agents that run until stopped, and commands that end."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

PASSPHRASE = "correct horse battery staple"  # noqa: S105 - the demonstration's own, told to everybody


class StepFailed(Exception):
    """A process did not do what the story needs; the text is what it said."""


class Finished(NamedTuple):
    """A command that has ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def last_json(self) -> Any:
        """The JSON of the last line."""
        return json.loads(self.stdout.splitlines()[-1])


def _environment() -> dict[str, str]:
    return os.environ | {"ECASH_PASSPHRASE": PASSPHRASE, "PYTHONUNBUFFERED": "1", "COLUMNS": "100"}


def command(agent: str, *arguments: str, fails: bool = False, **environment: str) -> Finished:
    """Run `python -m agents.AGENT` with these arguments as a process of its own, to its end.

    `environment` is added to the process's own.

    Raises:
        StepFailed: if it ends with another code than 0, unless it is expected to fail; or in more than a minute.
    """
    started = [sys.executable, "-P", "-m", f"agents.{agent}", *arguments]
    try:
        done = subprocess.run(
            started, env=_environment() | environment, capture_output=True, text=True, timeout=60, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise StepFailed(f"{agent} {' '.join(arguments[:2])} did not end in a minute") from error
    if (done.returncode == 0) == fails:
        raise StepFailed(done.stderr.strip() or done.stdout.strip() or f"{agent} ended with {done.returncode}")
    return Finished(done.returncode, done.stdout, done.stderr)


@contextmanager
def running(
    agent: str, home: Path, says: str, *options: str, command: str = "run", log: str = ""
) -> Iterator[subprocess.Popen[bytes]]:
    """Run an agent until the context ends, and then stop it with SIGTERM; enters when it has said `says`.

    What it prints and logs goes to a file beside its home, named after it or as `log` says.

    Raises:
        StepFailed: if it ends first, says nothing for half a minute, or does not stop cleanly.
    """
    said = home.with_name(f"{log or home.name}.log")
    started = [sys.executable, "-P", "-m", f"agents.{agent}", command, "--home", str(home), *options]
    with said.open("w") as file:
        process = subprocess.Popen(started, env=_environment(), stdout=file, stderr=file, start_new_session=True)
    try:
        _wait_until(process, said, says)
        yield process
    finally:
        process.terminate()
        try:
            code = process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
    if code != 0:
        raise StepFailed(f"the {agent} ended with {code}: {said.read_text().strip()}")


def _wait_until(process: subprocess.Popen[bytes], log: Path, says: str) -> None:
    give_up_at = time.monotonic() + 30
    while says not in log.read_text():
        if process.poll() is not None or time.monotonic() > give_up_at:
            raise StepFailed(log.read_text().strip() or "an agent said nothing")
        time.sleep(0.05)
