"""The HTTP API as data: its routes, their bodies and answers. The application and the OpenAPI document are made from it.

Source: fhevm-0.15.md, 5.1-5.6.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import attrs

from kmsconn.model.requests import Content
from kmsconn.protocols.fhevm.http_decryption import HttpLimits, read_public, read_user

API_VERSION: Final = "v1"


@attrs.frozen
class DecryptionRoute:
    """A path to which decryptions are posted: how its body is read, and which fields its answer has beside id and signature."""

    path: str
    summary: str
    read: Callable[[object, HttpLimits], Content]
    request: str
    """The name of the body's schema."""
    result: str
    """The field of the answer that holds the decryption."""


PUBLIC: Final = DecryptionRoute(
    "/v1/public-decrypt",
    "Reveal values to everybody",
    read_public,
    "PublicDecryptionRequest",
    "decryptedResult",
)
USER: Final = DecryptionRoute(
    "/v1/user-decrypt",
    "Reveal values to one user, under the user's permit",
    read_user,
    "UserDecryptionRequest",
    "userDecryptedShares",
)
DECRYPTION_ROUTES: Final = (PUBLIC, USER)
VERSION_PATH: Final = "/version"

ALLOWED: Final[Mapping[str, str]] = {
    **{one.path: "POST" for one in DECRYPTION_ROUTES},
    VERSION_PATH: "GET,HEAD",
}
"""The methods of each path, as its ``Allow`` header has them."""
