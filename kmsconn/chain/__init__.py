"""JSON-RPC, the wake-up, the cursor."""
