"""The forms of numbers and words as option values: durations, sizes, amounts, flags, digests. Pure; never quotes what may be secret.

Every function takes a value as TOML or the environment gave it and raises ValueError with a text that may be shown. Forms are those of
the 0.14 services (fhevm-0.14.md, section 9), so that their files and environments are read unchanged.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from functools import partial
from typing import Annotated, Any, Final

from kmsconn.config.description import (
    AttestationMode,
    CompressedKeySets,
    Form,
    LogFormat,
    Mode,
    Role,
    Secret,
    StatusPage,
    compressed_key_sets,
)
from kmsconn.ethereum.ids import KEY_TAG, PREP_KEYGEN_TAG, tag_of
from kmsconn.model.requests import profile_named

_LONGEST_QUOTE = 24
_U64 = 2**64 - 1
_TYPES = {
    bool: "a truth value", int: "a number", float: "a fraction", str: "text", list: "a list", dict: "a table",
}  # fmt: skip

_SECONDS = {
    "ns": 1e-9, "nsec": 1e-9, "us": 1e-6, "usec": 1e-6, "ms": 1e-3, "msec": 1e-3,
    "s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0, "m": 60.0, "min": 60.0, "minute": 60.0, "minutes": 60.0,
    "h": 3600.0, "hr": 3600.0, "hour": 3600.0, "hours": 3600.0, "d": 86400.0, "day": 86400.0, "days": 86400.0,
    "w": 604800.0, "week": 604800.0, "weeks": 604800.0,
}  # fmt: skip
_BYTES = {
    "": 1, "b": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "kb": 10**3, "mb": 10**6, "gb": 10**9,
}  # fmt: skip
_WEI = {"": 1, "wei": 1, "gwei": 10**9, "ether": 10**18, "eth": 10**18}
_FLAGS = dict.fromkeys(("true", "1", "yes", "on"), True) | dict.fromkeys(("false", "0", "no", "off"), False)

_DURATION_PART = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)")
_AMOUNT = re.compile(r"(\d{1,30})(?:\.(\d{1,18}))?\s*([a-z]*)")
_SIZE = re.compile(r"(\d+)\s*([a-z]*)")


def quoted(value: object) -> str:
    """Show a value in a message; long texts and URLs, which may be keys pasted in the wrong place, only by their length."""
    if not isinstance(value, str):
        return _TYPES.get(type(value), type(value).__name__)
    if len(value) > _LONGEST_QUOTE or "://" in value:
        return f"a text of {len(value)} characters"
    return repr(value)


def suggestion(written: str, known: Iterable[str]) -> str:
    """Return ``did you mean …?`` for the nearest known name, or nothing."""
    nearest = difflib.get_close_matches(written, list(known), n=1, cutoff=0.6)
    return f"did you mean {nearest[0]}?" if nearest else ""


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


def _listed(value: object) -> list[Any]:
    """Return a list as TOML has it, or a comma list or a JSON array in the environment; empty for what is none."""
    if isinstance(value, str):
        listed = value.strip().removeprefix("[").removesuffix("]").split(",")
        return [one.strip().strip("\"'") for one in listed]
    return value if isinstance(value, list) else []


def chain_ids(value: object) -> tuple[int, ...]:
    """Read chain ids."""
    if not (listed := _listed(value)):
        raise ValueError("must be a list of chain ids that is not empty")
    return tuple(dict.fromkeys(at_least(1, one) for one in listed))


def sha256_digest(value: object) -> bytes:
    """Read a SHA-256 digest: 64 hex digits, ``0x`` optional. Never shows it: it may be the key itself, put in the wrong place."""
    written = value.strip().lower().removeprefix("0x") if isinstance(value, str) else ""
    if not re.fullmatch(r"[0-9a-f]{64}", written):
        raise ValueError("must be a SHA-256 digest, 64 hex digits")
    return bytes.fromhex(written)


MOST_REQUESTS_PER_SECOND: Final = 1e6
"""Of one key: more than any machine answers."""
_KEY_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def key_id(value: object) -> str:
    """Read the id of a key of a client."""
    if not isinstance(value, str) or not _KEY_ID.fullmatch(value):
        rule = "1 to 64 letters, digits, dots, dashes and underscores, a letter or digit first"
        raise ValueError(f"must be {rule}")
    return value


def rate(value: object) -> float:
    """Read how many requests a second there may be."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError(f"must be a number, not {quoted(value)}")
    if not 0 < value <= MOST_REQUESTS_PER_SECOND:
        raise ValueError(f"must be above 0 and at most {MOST_REQUESTS_PER_SECOND:.0f}")
    return float(value)


_YOUNG = 3600.0  # seconds


def duration(value: object) -> float:
    """Read a duration in humantime's text (``500ms``, ``1h 30m``) as seconds."""
    written = text(value).strip() if isinstance(value, str) else ""
    parts = list(_DURATION_PART.finditer(written))
    whole_text = "".join(part[0] for part in parts)
    if not parts or whole_text != written or any(part[2] not in _SECONDS for part in parts):
        raise ValueError(f'must be a duration such as "500ms", "5m" or "24h", not {quoted(value)}')
    return sum(float(part[1]) * _SECONDS[part[2]] for part in parts)


def _limited(is_wrong: Callable[[float], bool], wanted: str, value: object) -> float:
    """Read a duration. Raises ValueError with what is ``wanted`` instead of one that ``is_wrong``."""
    seconds = duration(value)
    if is_wrong(seconds):
        raise ValueError(f"must be {wanted}")
    return seconds


positive_duration = partial(_limited, lambda seconds: not seconds, "longer than zero")
age = partial(_limited, lambda seconds: 0 < seconds < _YOUNG, "at least 1h, or 0s to keep it for ever")
"""What is younger may still be needed."""
lease = partial(_limited, lambda seconds: seconds < 1, "at least 1s")
"""A lease is renewed four times before it ends."""


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


def _table(value: object, what: str) -> dict[Any, Any]:
    """Read a table, or its JSON text."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise ValueError(f"must be a table of {what}, or its JSON text") from None
    if not isinstance(value, dict):
        raise ValueError(f"must be a table of {what}")
    return value


def fhe_parameters(value: object) -> dict[bytes, int]:
    """Read a table from digests on chain to numbers of the Core's parameters."""
    table = _table(value, "digests and numbers")
    wrong = [digest for digest in table if not re.fullmatch(r"0x[0-9a-fA-F]{64}", str(digest))]
    if wrong:
        raise ValueError(f"a digest is 0x and 64 hex digits, not {quoted(wrong[0])}")
    return {bytes.fromhex(digest[2:]): whole(number) for digest, number in table.items()}


def preprocessing_ids(value: object) -> dict[int, int]:
    """Read a table from ids of keys to ids of their preprocessings, each of 0x and 64 hex digits."""
    table = _table(value, "key ids and preprocessing ids")
    return {_tagged(KEY_TAG, key): _tagged(PREP_KEYGEN_TAG, prep) for key, prep in table.items()}


def _tagged(tag: int, value: object) -> int:
    if not re.fullmatch(r"0x[0-9a-fA-F]{64}", str(value)) or tag_of(int(str(value), 16)) != tag:
        raise ValueError(f"an id of this kind is 0x{tag:02x} and 62 hex digits, not {quoted(value)}")
    return int(str(value), 16)


def roles(value: object) -> frozenset[Role]:
    """Read what a process does: some of ``hear``, ``work`` and ``send``."""
    known, listed = [str(role) for role in Role], _listed(value)
    if not listed:
        raise ValueError(f"must be a list of {', '.join(known)} that is not empty")
    if wrong := [one for one in listed if one not in known]:
        raise ValueError(f"must be a list of {', '.join(known)}, and has {quoted(wrong[0])}")
    return frozenset(Role(one) for one in listed)


EVM: Final = "evm"
SOLANA: Final = "solana"
PLAINTEXT_ENCODINGS: Final = ("auto", "p3", "p1", "p2", "raw")
LOG_LEVELS: Final = ("debug", "info", "warning", "error")


def choice(choices: tuple[str, ...], value: object) -> str:
    """Read one of some words."""
    written = text(value).strip().lower()
    if written not in choices:
        raise ValueError(f"must be {' or '.join(choices)}, not {quoted(value)}")
    return written


def _log_level(value: object) -> str:
    return choice(LOG_LEVELS, "warning" if value == "warn" else value)


def _compressed_key_sets(value: object) -> CompressedKeySets:
    if isinstance(value, str) and value.strip().lower() == CompressedKeySets.AUTO:
        return CompressedKeySets.AUTO
    try:
        return compressed_key_sets(flag(value))
    except ValueError:
        raise ValueError(f"must be auto, true or false, not {quoted(value)}") from None


def _word(kind: type[StrEnum]) -> Form:
    return Form(lambda value: kind(choice(tuple(kind), value)), "word")


# --- how values are written


_UNITS: Final = ((3600.0, "h"), (60.0, "m"), (1.0, "s"), (0.001, "ms"))
_ETHER: Final = 10**18


def duration_text(seconds: float) -> str:
    """Write seconds as the largest unit that needs no fraction."""
    for unit, name in _UNITS:
        if seconds >= unit and not round(seconds * 1000) % round(unit * 1000):
            return f"{round(seconds / unit)}{name}"
    return f"{round(seconds * 1000)}ms"


def wei_text(wei: int) -> str:
    """Write an amount in ether, or in gwei where it is small."""
    if wei >= _ETHER // 1000:
        return f"{wei / _ETHER:g} ether"
    return f"{wei / 10**9:g} gwei"


def size_text(size: int) -> str:
    """Write a number of bytes, in MiB where it is a whole number of them."""
    return str(size) if size % (1 << 20) else f"{size >> 20}MiB"


def _hidden(_: object) -> str:
    return "set, not shown"


# --- forms by the names of what they read


Text = Annotated[str, Form(text, "text")]
Name = Annotated[str, Form(name, "text")]
SecretText = Annotated[Secret, Form(secret, "secret", _hidden)]
Flag = Annotated[bool, Form(flag, "true or false")]
ChainId = Annotated[int, Form(partial(at_least, 1), "number")]
Number = Annotated[int, Form(whole, "number")]
Count = Annotated[int, Form(partial(at_least, 1), "number ≥ 1")]
Percent = Annotated[int, Form(partial(at_least, 100), "number ≥ 100")]
Seconds = Annotated[float, Form(positive_duration, "duration", duration_text)]
Grace = Annotated[float, Form(duration, "duration", duration_text)]
Age = Annotated[float, Form(age, "duration", duration_text)]
Lease = Annotated[float, Form(lease, "duration", duration_text)]
ByteSize = Annotated[int, Form(size, "size", size_text)]
Wei = Annotated[int, Form(wei, "amount", wei_text)]
ChainIds = Annotated[frozenset[int], Form(chain_ids, "numbers")]
Digest = Annotated[bytes, Form(sha256_digest, "digest", _hidden)]
KeyId = Annotated[str, Form(key_id, "text")]
Rate = Annotated[float, Form(rate, "number")]
Roles = Annotated[frozenset[Role], Form(roles, "list of words")]
ProfileName = Annotated[str, Form(lambda value: profile_named(text(value)), "word")]
ChainKind = Annotated[str, Form(partial(choice, (EVM, SOLANA)), "word")]
Level = Annotated[str, Form(_log_level, "word")]
PlaintextEncoding = Annotated[str, Form(partial(choice, PLAINTEXT_ENCODINGS), "word")]
FheParameters = Annotated[Mapping[bytes, int], Form(fhe_parameters, "table")]
PreprocessingIds = Annotated[Mapping[int, int], Form(preprocessing_ids, "table")]
CompressedSets = Annotated[CompressedKeySets, Form(_compressed_key_sets, "auto, true or false")]
Attestations = Annotated[AttestationMode, _word(AttestationMode)]
Modes = Annotated[Mode, _word(Mode)]
LogFormats = Annotated[LogFormat, _word(LogFormat)]
StatusPages = Annotated[StatusPage, _word(StatusPage)]


# --- values under former names of options


def shadow_or_off(enabled: Any) -> Any:
    """Return the mode of attestations that 0.14's truth value means; what is none comes back as it is, to be judged later."""
    try:
        return "shadow" if flag(enabled) else "off"
    except ValueError:
        return enabled


def seconds(number: Any) -> Any:
    """Return a number of seconds as a duration."""
    return f"{number}s" if str(number).isdecimal() else number


def milliseconds(number: Any) -> Any:
    """Return a number of milliseconds as a duration."""
    return f"{number}ms" if str(number).isdecimal() else number
