"""Journals in PostgreSQL, on a server of Debian's package that the tests start."""
