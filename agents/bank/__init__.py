"""The bank: mints blind-signed coins, takes deposits and keeps the ledger."""
