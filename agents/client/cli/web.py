"""`ecash wallet web`: the wallet as pages in a browser, on this machine only."""

import logging
from typing import Annotated

import typer

from ...service import until_stopped
from ...terminal import LogLevel, out, run, told
from ...world import SystemClock, SystemEntropy
from .app import HOME, Home, app

_log = logging.getLogger("ecash.wallet")


@app.command()
@told
def web(
    listen: Annotated[str, typer.Option(help="Where to listen, on this machine only: :PORT.")] = ":8090",
    home: Home = HOME,
    log: LogLevel = "info",
) -> None:
    """Serve the wallet's pages to your own browser until Ctrl-C; without a wallet they help to make one.

    The passphrase is asked for in the browser. While it is unlocked, coins are kept in order as by `ecash wallet run`.

    Example: ecash wallet web
    """
    # Only here: the other commands do not wait for a web server to load.
    from ...web.listen import Listen  # noqa: PLC0415
    from ...web.server import served  # noqa: PLC0415
    from ..web.site import NAME, wallet_site  # noqa: PLC0415

    at = Listen.parse(listen)
    if not at.loopback:
        raise ValueError(f"{listen}: the wallet's pages are for this machine alone; say only a port, such as :8090")

    async def serve() -> None:
        app, guarded = wallet_site(home, SystemClock(), SystemEntropy(), at)
        async with served(app, guarded, at) as bound:
            own = f"http://{NAME}.localhost:{bound.port}/"
            out.print(f"The wallet: [bold]{own}[/] or http://{bound}/ (Ctrl-C ends it)", soft_wrap=True)
            _log.info("the wallet's page is open")
            await app.state.vault.run()

    run(until_stopped(serve()), log)
