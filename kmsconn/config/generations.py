"""Which table of options belongs to which generation. Data; reads nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kmsconn.config.httpz_options import HTTPZ_RC7
from kmsconn.config.options import FHEVM_014, OptionTable

TABLES: Final[Mapping[str, OptionTable]] = {"fhevm-0.14": FHEVM_014, "httpz-rc7": HTTPZ_RC7}
