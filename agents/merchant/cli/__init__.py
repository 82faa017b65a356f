"""`ecash merchant`: the commands, a module for each group of them."""

from . import money, shop, web
from .app import app

__all__ = ["app", "money", "shop", "web"]
