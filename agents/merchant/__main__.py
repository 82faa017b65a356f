"""`python -m agents.merchant`: the same as `ecash merchant`."""

from .cli import app

app(prog_name="python -m agents.merchant")
