"""The machines of the merchant: sale and deposit."""
