"""`python -m agents.client`: the same as `ecash wallet`."""

from .cli.app import app

app(prog_name="python -m agents.client")
