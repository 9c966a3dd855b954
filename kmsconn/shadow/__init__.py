"""Shadow mode: what stands in the place of the transaction manager where another connector sends the node's replies."""
