"""What the wire and the contracts are, per generation. Never does I/O."""
