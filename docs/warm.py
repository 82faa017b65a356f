"""A warm `ecash`, so that a guide with thirty commands does not import everything thirty times.

`python -m docs.warm SOCKET` imports the command line once and forks a process for each command that it is asked for.
`shim` makes the script that stands in for `ecash` and asks: it hands over its arguments, environment, folder and open
files, passes signals on, and ends as the command ends. Each command is a process of its own, as it would be otherwise.
"""

import importlib
import json
import os
import signal
import socket
import sys
from pathlib import Path

_SHIM = """\
#!{python} -IS
import json, os, signal, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({path!r})
    socket.send_fds(server, [b"+"], [0, 1, 2])
    server.sendall(json.dumps([sys.argv, dict(os.environ), os.getcwd()]).encode())
    server.shutdown(socket.SHUT_WR)
    pid = int.from_bytes(server.recv(4), "big")
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda number, _: os.kill(pid, number))
    code = server.recv(1)
sys.exit(code[0] if code else 137)
"""


def shim(script: Path, path: Path) -> None:
    """Write a script that has its command carried out by who listens at `path`; as if killed if that ends abruptly."""
    script.write_text(_SHIM.format(python=sys.executable, path=str(path)))
    script.chmod(0o755)


def serve(path: Path) -> None:
    """Listen at a path, and fork for each command, until killed."""
    cli = importlib.import_module("agents.cli")
    trace = importlib.import_module("agents.trace")
    seed = importlib.import_module("agents.client.seed")
    seed.HARD = seed.LIGHT  # type: ignore[attr-defined]  # a guide's wallets hold play money and are opened often
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        draft = path.with_suffix(".draft")
        listener.bind(str(draft))
        listener.listen(16)
        draft.rename(path)
        while True:
            asker, _ = listener.accept()
            if os.fork():
                asker.close()
                continue
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            _become(asker)
            importlib.reload(trace)  # it has read the environment when it was imported
            code = 0
            try:
                cli.main()
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else int(end.code is not None)
            sys.stdout.flush()
            asker.sendall(bytes([code]))
            os._exit(code)


def _become(asker: socket.socket) -> None:
    """Take over what makes the command that is asked for: open files, arguments, environment, folder."""
    _, files, _, _ = socket.recv_fds(asker, 1, 3)
    arguments, environment, folder = json.loads(b"".join(iter(lambda: asker.recv(65_536), b"")))
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    sys.argv = arguments
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    asker.sendall(os.getpid().to_bytes(4, "big"))


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
