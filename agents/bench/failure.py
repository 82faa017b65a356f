"""What can go wrong in a benchmark."""


class BenchFailed(Exception):
    """There are no figures; the text says why."""
