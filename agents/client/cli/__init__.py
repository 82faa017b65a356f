"""`ecash wallet`: the commands, a module for each group of them."""

from . import inspect, proof, recovery, refund, tending, transfer, wallet, web
from .app import app

__all__ = ["app", "inspect", "proof", "recovery", "refund", "tending", "transfer", "wallet", "web"]
