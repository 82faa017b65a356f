"""`ecash bank web`: the operator's pages, in a process beside the running bank."""

from pathlib import Path
from typing import Annotated, Final

import typer

from ..service import until_stopped
from ..terminal import LogLevel, default_home, home_option, out, run, told
from ..world import SystemClock, SystemEntropy
from .home import settings_of

_HOME: Final = default_home("bank")


@told
def web(
    listen: Annotated[
        str, typer.Option(help="Where: :PORT, or a loopback address with it. Other machines never reach it.")
    ] = ":8081",
    new_key: Annotated[bool, typer.Option("--new-key", help="Make a new key; the old one opens nothing more.")] = False,
    home: Annotated[Path, home_option("bank")] = _HOME,
    log: LogLevel = "info",
) -> None:
    """Serve the operator's pages on this machine until Ctrl-C; the bank may run meanwhile.

    Example: ecash bank web --listen :8081
    """
    # Imported here: the other commands need not wait for a web server.
    from ..web.listen import Listen  # noqa: PLC0415
    from .web.key import operator_key  # noqa: PLC0415
    from .web.serving import serve_pages  # noqa: PLC0415

    where = Listen.parse(listen)
    if not where.loopback:
        raise ValueError(f"the bank's pages are for this machine alone: listen at :{where.port}, not at {where}")
    if where.port == 0:
        raise ValueError("choose a port, such as :8081")
    settings_of(home)
    key = operator_key(home, SystemEntropy(), new=new_key)
    out.print(f"The bank's pages: [bold]http://bank.localhost:{where.port}/[/]")
    out.print(f"The operator's key: [bold]{key}[/]", soft_wrap=True)
    run(until_stopped(serve_pages(home, where, SystemClock(), SystemEntropy())), log)
