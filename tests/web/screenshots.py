"""Pictures of every page at two widths, some of them in the dark: `python -m tests.web.screenshots`."""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Final

from playwright.async_api import async_playwright

from .tour import Stop, tour, town

OUT: Final = Path("build/screenshots")
_WIDTHS: Final = (390, 1280)
_HEIGHT: Final = 844
_ALSO_DARK: Final = frozenset(
    {"shop-catalogue", "shop-order-waiting", "shop-order-accepted", "wallet-home", "wallet-payment", "bank-overview"}
)


async def shoot(stop: Stop, out: Path) -> list[Path]:
    """Take the pictures of a page; return where they are."""
    name, page = stop
    made = []
    for scheme in ("light", "dark") if name in _ALSO_DARK else ("light",):
        await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        for width in _WIDTHS:
            await page.set_viewport_size({"width": width, "height": _HEIGHT})
            path = out / f"{name}-{width}{'' if scheme == 'light' else '-dark'}.png"
            await page.screenshot(path=path, full_page=True, animations="disabled")
            made.append(path)
    await page.emulate_media(color_scheme="light")
    return made


async def main(out: Path) -> None:
    """Walk past all pages and take their pictures."""
    with tempfile.TemporaryDirectory() as folder:
        async with async_playwright() as playwright, town(Path(folder), playwright) as open_town:
            async for stop in tour(open_town):
                for path in await shoot(stop, out):
                    sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    _parser = argparse.ArgumentParser(description=__doc__)
    _parser.add_argument("--out", type=Path, default=OUT, help=f"a folder (default: {OUT})")
    _out = _parser.parse_args().out
    _out.mkdir(parents=True, exist_ok=True)
    asyncio.run(main(_out))
