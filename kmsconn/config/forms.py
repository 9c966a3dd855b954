"""The forms of option values: durations, sizes, flags, URLs, addresses, files. Pure; never quotes what may be secret.

Every function takes a value as TOML or the environment gave it and raises ValueError with a text that may be shown. Forms are those of
the 0.14 services (fhevm-0.14.md, section 9), so that their files and environments are read unchanged.
"""

from __future__ import annotations

import json
import re
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from kmsconn.config.postgres_url import is_postgres_url, parse_postgres_url
from kmsconn.config.settings import PostgresAddress, Role, Secret
from kmsconn.ethereum.addresses import Address, parse_address
from kmsconn.ethereum.ids import KEY_TAG, PREP_KEYGEN_TAG, tag_of

SQLITE = "sqlite:///"
_LONGEST_QUOTE = 24
_U64 = 2**64 - 1
_TYPES = {
    bool: "a truth value",
    int: "a number",
    float: "a fraction",
    str: "text",
    list: "a list",
    dict: "a table",
}

_SECONDS = {
    "ns": 1e-9, "nsec": 1e-9, "us": 1e-6, "usec": 1e-6, "ms": 1e-3, "msec": 1e-3,
    "s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0, "m": 60.0, "min": 60.0, "minute": 60.0, "minutes": 60.0,
    "h": 3600.0, "hr": 3600.0, "hour": 3600.0, "hours": 3600.0, "d": 86400.0, "day": 86400.0, "days": 86400.0,
    "w": 604800.0, "week": 604800.0, "weeks": 604800.0,
}  # fmt: skip
_BYTES = {
    "": 1,
    "b": 1,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
}
_WEI = {"": 1, "wei": 1, "gwei": 10**9, "ether": 10**18, "eth": 10**18}
_FLAGS = {
    "true": True,
    "1": True,
    "yes": True,
    "on": True,
    "false": False,
    "0": False,
    "no": False,
    "off": False,
}

_DURATION_PART = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)")
_AMOUNT = re.compile(r"(\d{1,30})(?:\.(\d{1,18}))?\s*([a-z]*)")
_SIZE = re.compile(r"(\d+)\s*([a-z]*)")
_NEXT_URL = re.compile(r"\s*,\s*(?=[a-zA-Z][a-zA-Z0-9+.-]*://)")


def quoted(value: object) -> str:
    """Show a value in a message; long texts and URLs, which may be keys pasted in the wrong place, only by their length."""
    if not isinstance(value, str):
        return _TYPES.get(type(value), type(value).__name__)
    if len(value) > _LONGEST_QUOTE or "://" in value:
        return f"a text of {len(value)} characters"
    return repr(value)


def text(value: object) -> str:
    """Read a text."""
    if not isinstance(value, str):
        raise ValueError(f"must be text, not {quoted(value)}")
    return value


def name(value: object) -> str:
    """Read a text that is not empty."""
    if not text(value).strip():
        raise ValueError("is empty")
    return text(value).strip()


def secret(value: object) -> Secret:
    """Read a text that is never shown."""
    if not isinstance(value, str):
        raise ValueError("must be text")
    return Secret(value.strip())


def flag(value: object) -> bool:
    """Read a truth value, or its text in the environment: true/false, yes/no, on/off, 1/0."""
    found = value if isinstance(value, bool) else _FLAGS.get(str(value).strip().lower())
    if found is None:
        raise ValueError(f"must be true or false, not {quoted(value)}")
    return found


def whole(value: object) -> int:
    """Read an unsigned 64-bit number, or its decimal text in the environment."""
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit():
        return whole(int(value))
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"must be a whole number, not {quoted(value)}")
    if not 0 <= value <= _U64:
        raise ValueError("must be between 0 and 2^64 - 1")
    return value


def at_least(minimum: int, value: object) -> int:
    """Read a whole number that is not below ``minimum``."""
    number = whole(value)
    if number < minimum:
        raise ValueError(f"must be at least {minimum}, not {number}")
    return number


def chain_ids(value: object) -> tuple[int, ...]:
    """Read chain ids: a list of numbers, a comma list, or a JSON array in the environment."""
    if isinstance(value, str):
        value = [one.strip() for one in value.strip().removeprefix("[").removesuffix("]").split(",")]
    if not isinstance(value, list) or not value:
        raise ValueError("must be a list of chain ids that is not empty")
    return tuple(dict.fromkeys(at_least(1, one) for one in value))


def sha256_digest(value: object) -> bytes:
    """Read a SHA-256 digest: 64 hex digits, ``0x`` optional. Never shows it: it may be the key itself, put in the wrong place."""
    written = value.strip().lower().removeprefix("0x") if isinstance(value, str) else ""
    if not re.fullmatch(r"[0-9a-f]{64}", written):
        raise ValueError("must be a SHA-256 digest, 64 hex digits")
    return bytes.fromhex(written)


_YOUNG = 3600.0  # seconds


def duration(value: object) -> float:
    """Read a duration in humantime's text (``500ms``, ``1h 30m``) as seconds."""
    written = text(value).strip() if isinstance(value, str) else ""
    parts = list(_DURATION_PART.finditer(written))
    if (
        not parts
        or "".join(part[0] for part in parts) != written
        or any(part[2] not in _SECONDS for part in parts)
    ):
        raise ValueError(f'must be a duration such as "500ms", "5m" or "24h", not {quoted(value)}')
    return sum(float(part[1]) * _SECONDS[part[2]] for part in parts)


def positive_duration(value: object) -> float:
    """Read a duration that is not zero."""
    seconds = duration(value)
    if not seconds:
        raise ValueError("must be longer than zero")
    return seconds


def age(value: object) -> float:
    """Read a duration of an hour at least, or zero: what is younger may still be needed."""
    seconds = duration(value)
    if 0 < seconds < _YOUNG:
        raise ValueError("must be at least 1h, or 0s to keep it for ever")
    return seconds


def size(value: object) -> int:
    """Read a number of bytes, or a text such as ``66MiB``."""
    if isinstance(value, int):
        return at_least(1, value)
    match = _SIZE.fullmatch(value.strip().lower()) if isinstance(value, str) else None
    if match is None or match[2] not in _BYTES:
        raise ValueError(f'must be a number of bytes or a text such as "66MiB", not {quoted(value)}')
    return at_least(1, int(match[1]) * _BYTES[match[2]])


def wei(value: object) -> int:
    """Read an amount of wei, or a text such as ``50 gwei`` or ``0.5 ether``."""
    match = _AMOUNT.fullmatch(str(value).strip().lower()) if isinstance(value, int | str) else None
    if match is None or match[3] not in _WEI or isinstance(value, bool):
        raise ValueError(f'must be an amount such as "50 gwei" or "0.5 ether", not {quoted(value)}')
    whole_part, fraction, unit = match[1], match[2] or "", _WEI[match[3]]
    found, rest = divmod(int(whole_part + fraction) * unit, int("1" + "0" * len(fraction)))
    if rest or not found:
        raise ValueError("must be at least 1 wei, in whole wei")
    return found


def contract_address(value: object) -> Address:
    """Read an address; mixed case must be a right EIP-55 checksum."""
    written = text(value).strip()
    if not re.fullmatch(r"0[xX][0-9a-fA-F]{40}", written):
        raise ValueError(f"must be an address, 0x and 40 hex digits, not {quoted(value)}")
    return parse_address(written)


def loose_address(contract: str, value: object) -> Address:
    """Read the address of a contract as the first generation did: with 0x, in any case of letters."""
    written = text(value).strip()
    if not written.startswith("0x"):
        raise ValueError(f"the address of {contract} must start with 0x")
    if not re.fullmatch(r"0x[0-9a-fA-F]{40}", written):
        raise ValueError(f"is no address of {contract}: 0x and 40 hex digits, not {quoted(value)}")
    return Address(bytes.fromhex(written[2:]))


def fhe_parameters(value: object) -> dict[bytes, int]:
    """Read a table, or its JSON text, from digests on chain to numbers of the Core's parameters."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise ValueError("must be a table of digests and numbers, or its JSON text") from None
    if not isinstance(value, dict):
        raise ValueError("must be a table of digests and numbers")
    wrong = [digest for digest in value if not re.fullmatch(r"0x[0-9a-fA-F]{64}", str(digest))]
    if wrong:
        raise ValueError(f"a digest is 0x and 64 hex digits, not {quoted(wrong[0])}")
    return {bytes.fromhex(digest[2:]): whole(number) for digest, number in value.items()}


def preprocessing_ids(value: object) -> dict[int, int]:
    """Read a table, or its JSON text, from ids of keys to ids of their preprocessings, each of 0x and 64 hex digits."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise ValueError("must be a table of key ids and preprocessing ids, or its JSON text") from None
    if not isinstance(value, dict):
        raise ValueError("must be a table of key ids and preprocessing ids")
    return {_tagged(KEY_TAG, key): _tagged(PREP_KEYGEN_TAG, prep) for key, prep in value.items()}


def _tagged(tag: int, value: object) -> int:
    if not re.fullmatch(r"0x[0-9a-fA-F]{64}", str(value)) or tag_of(int(str(value), 16)) != tag:
        raise ValueError(f"an id of this kind is 0x{tag:02x} and 62 hex digits, not {quoted(value)}")
    return int(str(value), 16)


def _check_url(url: str, schemes: tuple[str, ...]) -> str:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - reading it checks it
    except ValueError:
        raise ValueError("is not a URL: its host or port is malformed") from None
    if parts.scheme not in schemes:
        raise ValueError(
            f"must be a URL that starts with {' or '.join(f'{scheme}://' for scheme in schemes)}"
        )
    if not parts.hostname or not url.isprintable() or " " in url:
        raise ValueError("is not a URL: it has no host, or it contains a blank")
    return url


def _split(value: object) -> list[str]:
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        found = [one.strip() for one in value]
    else:
        found = [one.strip() for one in _NEXT_URL.split(text(value).strip().rstrip(","))]
    if not found or not all(found):
        raise ValueError("is empty")
    return found


def _urls(value: object, schemes: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(_check_url(url, schemes) for url in _split(value))


def rpc_urls(value: object) -> tuple[str, ...]:
    """Read the URLs of a chain: one, a comma list, or a list."""
    return _urls(value, ("http", "https", "ws", "wss"))


def websocket_urls(value: object) -> tuple[str, ...]:
    """Read websocket URLs of a chain: one, a comma list, or a list."""
    return _urls(value, ("ws", "wss"))


def core_endpoints(value: object) -> tuple[str, ...]:
    """Read the endpoints of the Core: ``http://host:port``, one, a comma list, or a list."""
    found = _urls(value, ("http", "https"))
    for url in found:
        parts = urlsplit(url)
        if parts.port is None or parts.path.strip("/") or parts.query or parts.username is not None:
            raise ValueError("must be http://host:port and nothing else")
    return tuple(url.rstrip("/") for url in found)


def http_url(value: object) -> str:
    """Read one URL of an HTTP service."""
    return _check_url(name(value), ("http", "https"))


def socket_address(value: object) -> str:
    """Read ``host:port`` (``[::]:9100`` for IPv6); port 0 takes a free one."""
    host, _, port = text(value).strip().rpartition(":")
    fits = port.isascii() and port.isdigit() and int(port) < 2**16
    if not fits or not host or "/" in host or (":" in host and not (host[0] == "[" and host[-1] == "]")):
        raise ValueError(f'must be host:port such as "0.0.0.0:9100", not {quoted(value)}')
    return f"{host}:{int(port)}"


def journal_address(value: object) -> Path | PostgresAddress:
    """Read ``sqlite:///PATH``, where a fourth slash begins an absolute path, or ``postgresql://USER@HOST:PORT/DATABASE``."""
    written = text(value).strip()
    if is_postgres_url(written):
        return parse_postgres_url(written)
    path = written.removeprefix(SQLITE)
    if not written.startswith(SQLITE) or not path:
        raise ValueError(
            f"must be {SQLITE}PATH (an absolute path: {SQLITE}/PATH) or postgresql://USER@HOST:PORT/DATABASE"
        )
    return Path(path)


def roles(value: object) -> frozenset[Role]:
    """Read what a process does: a list of ``hear``, ``work`` and ``send``, a comma list, or a JSON array in the environment."""
    if isinstance(value, str):
        value = [
            one.strip().strip("\"'") for one in value.strip().removeprefix("[").removesuffix("]").split(",")
        ]
    known = [str(role) for role in Role]
    if not isinstance(value, list) or not value:
        raise ValueError(f"must be a list of {', '.join(known)} that is not empty")
    if wrong := [one for one in value if one not in known]:
        raise ValueError(f"must be a list of {', '.join(known)}, and has {quoted(wrong[0])}")
    return frozenset(Role(one) for one in value)


_SHORTEST_LEASE = 1.0


def lease(value: object) -> float:
    """Read a duration of a second at least: a lease is renewed four times before it ends."""
    seconds = duration(value)
    if seconds < _SHORTEST_LEASE:
        raise ValueError("must be at least 1s")
    return seconds


def file_path(value: object) -> Path:
    """Read a path of a file."""
    return Path(name(value))


def existing_file(value: object) -> Path:
    """Read a path of a file that is there."""
    path = file_path(value)
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    return path


def is_loopback(host: str) -> bool:
    """Say whether a host, as it stands in an address or a URL, is this machine's loopback."""
    bare = host.strip("[]").lower()
    try:
        return bare == "localhost" or ip_address(bare).is_loopback
    except ValueError:
        return False
