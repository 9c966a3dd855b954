"""The contracts that a connector meets, as Python classes with the real rules: what they accept, emit, store and refuse."""
