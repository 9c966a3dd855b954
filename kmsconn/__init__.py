"""kmsconn: the process between an fhEVM gateway and one KMS Core node."""

__version__ = "0.1.0"
