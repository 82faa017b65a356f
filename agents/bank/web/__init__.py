"""The bank operator's pages: the business, accounts, payouts, keys and commission, and the audit."""
