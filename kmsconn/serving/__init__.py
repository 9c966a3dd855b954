"""One HTTP server for both ports: the monitoring address, and decryptions that are asked for over HTTP."""
