"""The audit log, fed by the journal's outbox: its hashed lines, its files, their verification."""
