"""What must survive: the port, SQLite, schema."""
