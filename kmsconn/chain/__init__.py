"""One chain: its endpoint and JSON-RPC, its logs, heads and forks."""
