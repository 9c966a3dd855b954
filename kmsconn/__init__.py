"""kmsconn: the process between an fhEVM gateway and one KMS Core node.

``open_connector`` and ``serve`` run a connector inside any Trio program; they open no port, install no signal handler and configure
no logging. ``kmsconn run`` is the same with all three. The names here are the public ones; ``kmsconn.testing`` and
``kmsconn.emulator`` are public too.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from kmsconn.chain.provider import (
        Decoded,
        Interfaces,
        Place,
        Provider,
        UnknownLog,
        interfaces,
        open_provider,
    )
    from kmsconn.config.settings import Settings as Config
    from kmsconn.config.sources import load_config
    from kmsconn.connector.connector import Connector, open_connector, serve
    from kmsconn.errors import (
        CallReverted,
        ConfigError,
        Fault,
        KmsconnError,
        RequestError,
        Retryable,
        StartRefused,
        Terminal,
    )
    from kmsconn.model.events import Event, OnEvent
    from kmsconn.model.http_answers import HttpFailure, HttpResult
    from kmsconn.model.life import State
    from kmsconn.model.requests import Kind
    from kmsconn.protocols.fhevm.http_decryption import BodyRefused, HttpLimits
    from kmsconn.protocols.fhevm.http_decryption import read_public as read_public_decryption
    from kmsconn.protocols.fhevm.http_decryption import read_user as read_user_decryption
    from kmsconn.requests.snapshot import Statistics
    from kmsconn.transport.ports import Dial, Offload, Ports

__all__ = [
    "BodyRefused",
    "CallReverted",
    "Config",
    "ConfigError",
    "Connector",
    "Decoded",
    "Dial",
    "Event",
    "Fault",
    "HttpFailure",
    "HttpLimits",
    "HttpResult",
    "Interfaces",
    "Kind",
    "KmsconnError",
    "Offload",
    "OnEvent",
    "Place",
    "Ports",
    "Provider",
    "RequestError",
    "Retryable",
    "StartRefused",
    "State",
    "Statistics",
    "Terminal",
    "UnknownLog",
    "__version__",
    "interfaces",
    "load_config",
    "open_connector",
    "open_provider",
    "read_public_decryption",
    "read_user_decryption",
    "serve",
]

# A name is imported when it is first used: `kmsconn --version` and `kmsconn.emulator` need not load the whole service.
_HOMES = {
    "kmsconn.chain.provider": (
        "Decoded",
        "Interfaces",
        "Place",
        "Provider",
        "UnknownLog",
        "interfaces",
        "open_provider",
    ),
    "kmsconn.config.settings": ("Settings",),
    "kmsconn.config.sources": ("load_config",),
    "kmsconn.errors": (
        "CallReverted",
        "ConfigError",
        "Fault",
        "KmsconnError",
        "RequestError",
        "Retryable",
        "StartRefused",
        "Terminal",
    ),
    "kmsconn.model.http_answers": ("HttpFailure", "HttpResult"),
    "kmsconn.protocols.fhevm.http_decryption": ("BodyRefused", "HttpLimits", "read_public", "read_user"),
    "kmsconn.model.events": ("Event", "OnEvent"),
    "kmsconn.model.life": ("State",),
    "kmsconn.model.requests": ("Kind",),
    "kmsconn.transport.ports": ("Dial", "Offload", "Ports"),
    "kmsconn.connector.connector": ("Connector", "open_connector", "serve"),
    "kmsconn.requests.snapshot": ("Statistics",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
_RENAMED = {
    "Config": "Settings",
    "read_public_decryption": "read_public",
    "read_user_decryption": "read_user",
}


def __getattr__(name: str) -> Any:
    inner = _RENAMED.get(name, name)
    home = _HOME_OF.get(inner)
    if home is None or (inner != name) != (name in _RENAMED):
        raise AttributeError(f"module 'kmsconn' has no attribute {name!r}")
    return getattr(importlib.import_module(home), inner)


def __dir__() -> list[str]:
    return sorted(__all__)
