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
    from kmsconn.config.settings import Settings as Config  # noqa: F401 - public
    from kmsconn.config.sources import load_config as load_config
    from kmsconn.connector.connector import Connector as Connector
    from kmsconn.connector.connector import open_connector as open_connector
    from kmsconn.connector.connector import serve as serve
    from kmsconn.connector.contracts import Decoded as Decoded
    from kmsconn.connector.contracts import Interfaces as Interfaces
    from kmsconn.connector.contracts import Place as Place
    from kmsconn.connector.contracts import Provider as Provider
    from kmsconn.connector.contracts import UnknownLog as UnknownLog
    from kmsconn.connector.contracts import interfaces as interfaces
    from kmsconn.connector.contracts import open_provider as open_provider
    from kmsconn.errors import CallReverted as CallReverted
    from kmsconn.errors import ConfigError as ConfigError
    from kmsconn.errors import Fault as Fault
    from kmsconn.errors import KmsconnError as KmsconnError
    from kmsconn.errors import RequestError as RequestError
    from kmsconn.errors import Retryable as Retryable
    from kmsconn.errors import StartRefused as StartRefused
    from kmsconn.errors import Terminal as Terminal
    from kmsconn.model.events import Event as Event
    from kmsconn.model.events import OnEvent as OnEvent
    from kmsconn.model.http_answers import HttpFailure as HttpFailure
    from kmsconn.model.http_answers import HttpResult as HttpResult
    from kmsconn.model.life import State as State
    from kmsconn.model.requests import Kind as Kind
    from kmsconn.protocols.fhevm.http_decryption import BodyRefused as BodyRefused
    from kmsconn.protocols.fhevm.http_decryption import HttpLimits as HttpLimits
    from kmsconn.protocols.fhevm.http_decryption import read_public as read_public_decryption  # noqa: F401 - public
    from kmsconn.protocols.fhevm.http_decryption import read_user as read_user_decryption  # noqa: F401 - public
    from kmsconn.requests.snapshot import Statistics as Statistics
    from kmsconn.transport.ports import Dial as Dial
    from kmsconn.transport.ports import Offload as Offload
    from kmsconn.transport.ports import Ports as Ports

_HOMES = {
    "BodyRefused": "protocols.fhevm.http_decryption",
    "CallReverted": "errors",
    "Config": "config.settings:Settings",
    "ConfigError": "errors",
    "Connector": "connector.connector",
    "Decoded": "connector.contracts",
    "Dial": "transport.ports",
    "Event": "model.events",
    "Fault": "errors",
    "HttpFailure": "model.http_answers",
    "HttpLimits": "protocols.fhevm.http_decryption",
    "HttpResult": "model.http_answers",
    "Interfaces": "connector.contracts",
    "Kind": "model.requests",
    "KmsconnError": "errors",
    "Offload": "transport.ports",
    "OnEvent": "model.events",
    "Place": "connector.contracts",
    "Ports": "transport.ports",
    "Provider": "connector.contracts",
    "RequestError": "errors",
    "Retryable": "errors",
    "StartRefused": "errors",
    "State": "model.life",
    "Statistics": "requests.snapshot",
    "Terminal": "errors",
    "UnknownLog": "connector.contracts",
    "interfaces": "connector.contracts",
    "load_config": "config.sources",
    "open_connector": "connector.connector",
    "open_provider": "connector.contracts",
    "read_public_decryption": "protocols.fhevm.http_decryption:read_public",
    "read_user_decryption": "protocols.fhevm.http_decryption:read_user",
    "serve": "connector.connector",
}
"""Every public name, and the module that has it, with its name there where that is another one."""

__all__ = ["__version__", *_HOMES]  # noqa: PLE0604 - names, every one


def __getattr__(name: str) -> Any:
    """Import a name when it is first used: `kmsconn --version` and `kmsconn.emulator` need not load the whole service."""
    if name not in _HOMES:
        raise AttributeError(f"module 'kmsconn' has no attribute {name!r}")
    home, _, inner = _HOMES[name].partition(":")
    return getattr(importlib.import_module(f"kmsconn.{home}"), inner or name)


def __dir__() -> list[str]:
    return sorted(__all__)
