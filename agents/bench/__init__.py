"""`ecash bench`: how fast bank and merchant are, measured against the openssl of the same machine."""
