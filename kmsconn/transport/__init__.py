"""The way out: dialling, proxies, TLS, HTTP/1.1, AWS, gRPC, and the one module that moves blocking work off the loop."""
