"""JSON-RPC, the doorbell, the cursor."""
