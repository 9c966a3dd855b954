"""The client of the KMS Core."""
