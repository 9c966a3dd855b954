"""Which table of options belongs to which generation. Data; reads nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kmsconn.config.httpz_options import HTTPZ_RC7
from kmsconn.config.options import FHEVM, OptionTable
from kmsconn.model import profiles

TABLES: Final[Mapping[str, OptionTable]] = {profiles.FHEVM: FHEVM, profiles.HTTPZ_RC7: HTTPZ_RC7}
