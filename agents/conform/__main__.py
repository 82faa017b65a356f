"""`python -m agents.conform`: the same as `ecash conform`."""

from .cli import app

app(prog_name="python -m agents.conform")
