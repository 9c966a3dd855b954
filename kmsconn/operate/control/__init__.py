"""Commands of operators: to a running connector over a local socket, or to the journal of one that is stopped."""
