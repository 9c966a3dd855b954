"""Public: worlds, fault scripts and strategies for suites that prove a connector."""
