"""Decryption over HTTP: a second source of requests beside the chain, and the place where their answers go."""
