"""One chain: its endpoint and JSON-RPC, its logs, the cursor, heads and forks."""
