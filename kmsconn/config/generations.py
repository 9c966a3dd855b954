"""Which table of options belongs to which generation. Data; reads nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kmsconn.config.httpz_options import HTTPZ_RC7
from kmsconn.config.options import FHEVM_014, OptionTable

TABLES: Final[Mapping[str, OptionTable]] = {"fhevm-0.14": FHEVM_014, "httpz-rc7": HTTPZ_RC7}


def generation_of(name: str) -> str | None:
    """Return the generation that knows a name, or None."""
    return next((generation for generation, table in TABLES.items() if name in table.known_names), None)
