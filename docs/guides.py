"""The guides in `docs/guide/`, run for real: `python -m docs.guides [--write] [NAME …]`.

A guide is a page in Markdown. Its blocks marked `console` hold commands, each after `$ `, and what they printed. They
are run one after the other in one shell, in the project's folder. What is printed is compared with the page, but for
what differs each time (ids, keys, words, times); `--write` puts what was printed into the page.
"""

import argparse
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from .warm import shim

FOLDER: Final = Path(__file__).with_name("guide")
ROOT: Final = FOLDER.parents[1]
LONGEST_S: Final = 300
_BLOCK: Final = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MARK: Final = "=== end of command ==="

_VARYING: Final = (
    (re.compile(r"ECASH(REQ)?:[A-Z2-7…]+"), "<token>"),
    (re.compile(r"web\+ecash:pay/[a-z2-7…]+"), "<link>"),
    (re.compile(r"\b(sk|whsec)_[\w+/=]+"), "<key>"),
    (re.compile(r"ecash://[^\s\"]+"), "<address>"),
    (re.compile(r"\b[0-9a-f]{5}(-[0-9a-f]{5}){3}\b"), "<code>"),
    (re.compile(r"\b[a-z2-7]{4}(-[a-z2-7]{4}){3,}(-[a-z2-7]{2})?\b"), "<invitation>"),
    (re.compile(r"\b(?=[a-f]*[0-9])[0-9a-f]{8,}\b…?"), "<hex>"),
    (re.compile(r"\b[0-9a-f]{8,}\b…?"), "<hex>"),
    (re.compile(r"\d{4}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d(\.\d+)?)?( UTC|Z)?)?"), "<time>"),
    (re.compile(r"/[^\s:]*ecash-town-\w+"), "<town>"),
    (re.compile(r"(127\.0\.0\.1|[a-z]+\.localhost):\d+"), "<port>"),
    (re.compile(r"\b\d+(\.\d+)? ?(ms|s)\b"), "<time>"),
    (re.compile(r"^ *([a-z]{3,8} ){11}[a-z]{3,8}$", re.MULTILINE), "<words>"),
    (re.compile(r"[█▀▄ ]*[█▀▄][█▀▄ ]*"), "<qr>"),
    (re.compile(r" +"), " "),
)


class Step(NamedTuple):
    """A command of a guide, as it is shown, and what it printed.

    It may go over several lines: one may end in a backslash, and all but the first may begin with `> `, as a shell
    shows them.
    """

    command: str
    printed: str

    @property
    def script(self) -> str:
        """What the shell is given."""
        return re.sub(r"\n> ?", "\n", self.command)


def steps(page: str) -> Iterator[Step]:
    """Return the commands of a page in order."""
    for block in _BLOCK.findall(page):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = part.splitlines(keepends=True)
            count = 1
            while lines[count - 1].endswith("\\\n") or (lines[count : count + 1] and lines[count].startswith(">")):
                count += 1
            yield Step("".join(lines[:count]).rstrip("\n"), "".join(lines[count:]))


def mask(text: str) -> str:
    """Return a text without what differs each time."""
    for pattern, name in _VARYING:
        text = pattern.sub(name, text)
    return "\n".join(line.rstrip() for line in text.splitlines())


def play(commands: Sequence[str]) -> list[str]:
    """Run commands in one shell and return what each printed, standard error included.

    Raises:
        TimeoutError: if all of them together take longer than `LONGEST_S`.
        RuntimeError: if the shell ended before.
    """
    with tempfile.TemporaryDirectory(prefix="ecash-guide-") as name:
        folder = Path(name)
        socket_path, script, output = folder / "warm", folder / "script", folder / "output"
        shim(folder / "ecash", socket_path)
        ready = f'until [ -e "{socket_path}" ]; do kill -0 $! || exit; sleep 0.1; done'
        parts = [f'"{sys.executable}" -m docs.warm "{socket_path}" &', ready]
        parts += [f'{command}\nended_with=$?; printf "\\n%s\\n" "{_MARK}"; (exit $ended_with)' for command in commands]
        script.write_text("\n".join(parts) + "\ntown_ends >/dev/null 2>&1\n")
        with output.open("wb") as file:
            shell = subprocess.Popen(
                ["bash", "--noprofile", "--norc", str(script)],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=_environment(folder),
                start_new_session=True,
            )
            try:
                shell.wait(LONGEST_S)
            except subprocess.TimeoutExpired as error:
                raise TimeoutError(output.read_text()) from error
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(shell.pid, signal.SIGKILL)
                shell.wait()
        text = output.read_text().replace(f"{folder}/", "/tmp/").replace(f"{script}: line ", "line ")  # noqa: S108
    printed = text.split(f"\n{_MARK}\n")[: len(commands)]
    if len(printed) < len(commands):
        raise RuntimeError(f"the shell ended: {text}")
    return ["".join(f"{line.rstrip()}\n" for line in part.splitlines()) for part in printed]


def _free_port() -> int:
    """Return a port where nobody listens, below those that the kernel gives to connections."""
    while True:
        port = 10_000 + secrets.randbelow(22_000)
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def _environment(folder: Path) -> dict[str, str]:
    """Return what the shell finds: its home and temporary files are in the folder, and a free port is named."""
    places = [str(folder), str(Path(sys.executable).parent), os.environ["PATH"]]
    return {
        "PATH": os.pathsep.join(places),
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "COLUMNS": "110",
        "ECASH_TOWN_PORT": str(_free_port()),
    }


def written(page: str, printed: Sequence[str]) -> str:
    """Return the page with what was printed now."""
    fresh = iter(printed)

    def block(match: re.Match[str]) -> str:
        parts = []
        for step in steps(match[0]):
            parts.append(f"$ {step.command}\n{next(fresh)}")
        return "```console\n" + "".join(parts) + "```"

    return _BLOCK.sub(block, page)


def differences(page: str, printed: Sequence[str]) -> list[str]:
    """Return, for each command that printed something else than the page shows, both."""
    return [
        f"$ {step.command}\n--- the page:\n{mask(step.printed)}\n--- printed:\n{mask(now)}"
        for step, now in zip(steps(page), printed, strict=True)
        if mask(step.printed) != mask(now)
    ]


def _check(path: Path, *, write: bool) -> list[str]:
    page = path.read_text()
    printed = play([step.script for step in steps(page)])
    found = differences(page, printed)
    if write and found:
        path.write_text(written(page, printed))
        return []
    return found


def main() -> None:
    """Run the guides that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="guides, such as `change`; all of them unless named")
    parser.add_argument("--write", action="store_true", help="put what was printed into the pages")
    arguments = parser.parse_args()
    paths = [FOLDER / f"{name}.md" for name in arguments.names] or sorted(FOLDER.glob("*.md"))
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda path: _check(path, write=arguments.write), paths))
    for path, found in zip(paths, results, strict=True):
        sys.stdout.write(f"{path.stem}: {'as the page says' if not found else f'{len(found)} commands differ'}\n")
        sys.stdout.write("".join(f"{one}\n" for one in found))
    sys.exit(any(results))


if __name__ == "__main__":
    main()
