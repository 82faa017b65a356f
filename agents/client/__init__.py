"""The client: a wallet for coins of any number of banks."""
