"""The transaction manager: wallets, nonces, fees, and the life of a reply from its signature to its finality."""
