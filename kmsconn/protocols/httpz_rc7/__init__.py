"""The first generation: DecryptionManager, HTTPZ and KeyManager on one gateway (spring 2025)."""
