"""`python -m agents.bank`: the same as `ecash bank`."""

from .cli import app

app(prog_name="python -m agents.bank")
