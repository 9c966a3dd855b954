"""Wallets, the nonce lane, fees, and the life of a transaction."""
