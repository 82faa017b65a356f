"""What the merchant's commands share: the app that they are entered in, and the home."""

from pathlib import Path
from typing import Annotated, Final

import typer

from ...terminal import default_home, home_option

app = typer.Typer(no_args_is_help=True, help="The merchant: it is paid at once and never sees a coin.")

HOME: Final = default_home("merchant")
Home = Annotated[Path, home_option("merchant")]
