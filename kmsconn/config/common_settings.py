"""The settings that all processes over one journal must have alike: in words, and how those of several processes differ. Pure.

Each process writes its words beside its name in the journal, so nothing secret stands in them. The chains, the contracts and the tx sender
are not among them: a process with others is refused (``journal.binding``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import attrs

from kmsconn.config.forms import duration_text
from kmsconn.config.settings import Settings

CORES: Final = "kms_core_endpoints"
_BETWEEN: Final = ", "


@attrs.frozen
class SettingDifference:
    """An option that not all processes have alike; ``text``: each value, with those that have it."""

    option: str
    text: str


def common_settings(settings: Settings) -> dict[str, str]:
    """Return in words what all processes must have alike, by option."""
    storage, prepared = settings.storage, sorted(settings.protocol.preprocessing_ids.items())
    return {
        "mode": settings.work.mode.value,
        "lease": duration_text(storage.lease),
        CORES: _BETWEEN.join(settings.core.core_endpoints),
        "retention.contents": duration_text(storage.retention.contents),
        "retention.rows": duration_text(storage.retention.rows),
        "audit_log": "none" if storage.audit_log is None else "a file",
        "compressed_key_sets": settings.protocol.compressed_key_sets.value,
        "preprocessing_ids": _BETWEEN.join(f"{key:#x} = {other:#x}" for key, other in prepared) or "none",
    }


def differences(processes: Iterable[tuple[str, Mapping[str, str]]]) -> list[SettingDifference]:
    """Compare processes, each a name and its settings; what one has not said, as an older version, is no difference."""
    named = list(processes)
    options = dict.fromkeys(option for _, settings in named for option in settings)
    found = []
    for option in options:
        values = _values(option, named)
        if len(values) > 1:
            text = "; ".join(f"{value} at {_BETWEEN.join(names)}" for value, names in values.items())
            found.append(SettingDifference(option, text))
    return found


def _values(option: str, named: Iterable[tuple[str, Mapping[str, str]]]) -> dict[str, list[str]]:
    """Return those that have each value of an option; values that mean the same are one."""
    found: dict[str, list[str]] = {}
    for name, settings in named:
        if option not in settings:
            continue
        value = settings[option]
        same = next(
            (one for one in found if one == value or (option == CORES and _same_cores(one, value))), value
        )
        found.setdefault(same, []).append(name)
    return found


def _same_cores(one: str, other: str) -> bool:
    """Say whether two lists of Cores may mean the same ones: as many, and whichever both name is at the same place in both.

    A Core may have another address on another machine.
    """
    first, second = one.split(_BETWEEN), other.split(_BETWEEN)
    return len(first) == len(second) and all(
        mine == theirs or (mine not in second and theirs not in first)
        for mine, theirs in zip(first, second, strict=True)
    )
