"""The audit log: a chain of hashed lines, its files, and the proof that nothing in them was changed."""
