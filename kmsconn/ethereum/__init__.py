"""Ethereum formats: ABI, EIP-712, RLP and transactions, keccak, recovery, addresses, handles, ids. Never does I/O."""
