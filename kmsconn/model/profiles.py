"""The names of protocol generations. Data; never says what a generation does."""

from __future__ import annotations

from typing import Final

FHEVM: Final = "fhevm"
HTTPZ_RC7: Final = "httpz-rc7"
PROFILES: Final = (FHEVM, HTTPZ_RC7)
"""The generations, the default first."""

PROFILE_ALIASES: Final = {"fhevm-0.14": FHEVM, "fhevm-0.15": FHEVM}
"""Other names of a generation: one profile finds out at each contract and Core which release it faces."""


def profile_named(text: str) -> str:
    """Return the generation that a name or an alias means, in any case. Raises ValueError for another name."""
    written = text.strip().lower()
    name = PROFILE_ALIASES.get(written, written)
    if name not in PROFILES:
        raise ValueError(f"must be {' or '.join(PROFILES)}, not {text!r}")
    return name
