"""The client of the Core: its methods, what its statuses mean for a request, TLS."""
