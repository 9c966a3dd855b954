"""Adapters on the one on_event hook and on statistics(): metrics, health, logs."""
