"""gRPC for Trio: unary calls over HTTP/2 with deadlines, flow control and bounded memory. A library of its own kind."""
