"""The way out: dialling, TLS, the one module that knows the HTTP library, the one that moves blocking work off the loop."""
