"""What is seen of a connector: alerts, health, metrics, logs, traces and the status page, made of its events and its snapshot."""
