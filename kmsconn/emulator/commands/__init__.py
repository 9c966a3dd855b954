"""The commands that emulate: ``kmsconn demo`` and ``kmsconn emulate``, their arguments and their words."""
