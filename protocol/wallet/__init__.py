"""The machines of the wallet: withdrawal and payment."""
