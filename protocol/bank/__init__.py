"""The machines of the bank, one for each kind of request, and its double-entry ledger."""
