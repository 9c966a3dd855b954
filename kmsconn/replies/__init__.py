"""From a durable answer to a final transaction, or, in shadow mode, to a comparison."""
