"""What a process asked the kernel for, as `strace -f -y` wrote it down: writes to a database's log, syncs, messages."""

import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import Final, NamedTuple

import pytest

_CALLS: Final = "trace=fsync,fdatasync,pwrite64,pwritev,pwritev2,write,writev,sendto,sendmsg,recvfrom"
_CALL: Final = re.compile(r"^(?P<pid>\d+) +(?:<\.\.\. (?P<resumed>\w+) resumed>|(?P<name>\w+)\(\d+<(?P<file>[^>]*)>)")
_TOPIC: Final = re.compile(r"ecash/v1/[a-z0-9/-]+")
_LOG: Final = ".db-wal"


class What(Enum):
    """What happened."""

    WRITTEN = "the database's log was written to"
    SYNCED = "the database's log is on the disk"
    HEARD = "a message came in"
    SAID = "a message is about to go out"


class Event(NamedTuple):
    """A call that matters here, with the topic of the message or the path of the log."""

    what: What
    subject: str


class Answer(NamedTuple):
    """An answer that went out: to which kind of request, and what became of the log since that came in."""

    kind: str
    written: bool
    synced: bool


def tracing(output: Path) -> tuple[str, ...]:
    """The words before a command that make a trace of it; it keeps its process id, its signals and its exit code."""
    return ("strace", "-D", "-f", "-y", "-s", "120", "--seccomp-bpf", "-e", _CALLS, "-o", str(output))


def need_strace(folder: Path) -> None:
    """Skip the test where no process can be traced."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: apt install strace")
    tried = subprocess.run([*tracing(folder / "tried"), "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0 or "ptrace" in tried.stderr:
        pytest.skip(f"strace is not allowed here: {tried.stderr.strip()}")


def events(trace: Path) -> Iterator[Event]:
    """Read a trace. A write or a message counts from when it was asked for, a sync from when it was done."""
    syncing: dict[str, str] = {}
    for line in trace.read_text().splitlines():
        call = _CALL.match(line)
        if call is None:
            continue
        pid, name, file = call["pid"], call["name"] or call["resumed"], call["file"] or ""
        topic = _TOPIC.search(line)
        if name in {"fsync", "fdatasync"}:
            syncing[pid] = file or syncing[pid]
            if line.endswith(" = 0") and syncing[pid].endswith(_LOG):
                yield Event(What.SYNCED, syncing[pid])
        elif name == "recvfrom" and topic:
            yield Event(What.HEARD, topic[0])
        elif file.startswith("socket:") and topic:
            yield Event(What.SAID, topic[0])
        elif file.endswith(_LOG):
            yield Event(What.WRITTEN, file)


def hasty(happened: Iterable[Event]) -> list[str]:
    """The topics of all messages that went out while something in the log was not on the disk."""
    dirty, found = False, []
    for what, subject in happened:
        match what:
            case What.WRITTEN:
                dirty = True
            case What.SYNCED:
                dirty = False
            case What.SAID if dirty:
                found.append(subject)
            case _:
                pass
    return found


def answers(happened: Iterable[Event]) -> list[Answer]:
    """All answers that went out, each to the last request of its client."""
    asked: dict[str, Answer] = {}
    found = []
    for what, subject in happened:
        words = subject.split("/")
        if what is What.HEARD and words[2] != "reply" and len(words) > 4:
            asked[words[-1]] = Answer(words[-2], written=False, synced=True)
        elif what is What.SAID and words[2] == "reply" and words[3] in asked:
            found.append(asked.pop(words[3]))
        elif what is What.WRITTEN:
            asked = {client: Answer(one.kind, written=True, synced=False) for client, one in asked.items()}
        elif what is What.SYNCED:
            asked = {client: one._replace(synced=True) for client, one in asked.items()}
    return found
