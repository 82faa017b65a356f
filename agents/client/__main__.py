"""`python -m agents.client`: the same as `ecash wallet`."""

from .cli import app

app(prog_name="python -m agents.client")
