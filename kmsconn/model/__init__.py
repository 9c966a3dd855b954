"""The values that travel through the connector: requests, steps, outcomes, events. Never does I/O."""
