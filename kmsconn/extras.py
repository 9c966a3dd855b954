"""The optional parts of an installation: which packages each needs, and a refusal that names the command where one is missing.

The base installation has what ``kmsconn run`` needs and nothing else, since its process holds a signing key.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Final

from kmsconn.errors import StartRefused

_AWS = ("aiobotocore", "cryptography")
_EMULATOR = ("cryptography", "kyber_py", "rich")

EXTRAS: Final[Mapping[str, tuple[str, ...]]] = {
    "aws": _AWS,
    "emulator": _EMULATOR,
    "otel": ("opentelemetry",),
    "postgres": ("psycopg",),
    "top": ("rich",),
    "testing": tuple(sorted({*_AWS, *_EMULATOR, "hypothesis"})),
}
"""The packages of each extra of pyproject.toml, as they are imported."""


class ExtraMissing(StartRefused, ModuleNotFoundError):  # noqa: N818 - says what happened, as those of kmsconn.errors
    """A package of an extra is not installed."""


def require_extra(extra: str, part: str) -> None:
    """Check that the packages of an extra are installed; imports none of them. ``part`` is what needs them, in an operator's words.

    Raises ExtraMissing, which is an ImportError too.
    """
    if missing := _missing(extra):
        raise ExtraMissing(
            f"{part} needs {', '.join(missing)}, not installed here: "
            f"install the extra {extra!r} with: pip install 'kmsconn[{extra}]'"
        )


def is_installed(extra: str) -> bool:
    """Say whether the packages of an extra are installed; imports none of them."""
    return not _missing(extra)


def _missing(extra: str) -> list[str]:
    return [package for package in EXTRAS[extra] if find_spec(package) is None]
