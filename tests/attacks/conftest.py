from tests.agents.conftest import clock, founded, network, real_town, town

__all__ = ["clock", "founded", "network", "real_town", "town"]  # fixtures
