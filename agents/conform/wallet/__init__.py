"""The suite for wallets: it is the bank and a shop, whose moods change, and gives the wallet commands."""
