"""JSON-RPC over websocket and HTTP: endpoints, logs, the cursor, heads, queries."""
