"""gRPC on Trio and the client of the Core."""
