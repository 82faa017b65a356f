"""Conformance suites: whether banks, merchants and wallets, whoever wrote them, do what `docs/protocol.md` says."""
