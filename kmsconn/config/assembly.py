"""From typed option values to the settings of any generation: walks their descriptions, so that none is forgotten. Reads token files only.

What is made of several options has a function, by the name of its field; faults that only show between options are noted there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs

from kmsconn.config.description import Form, Section, fields_of
from kmsconn.config.findings import Findings
from kmsconn.config.keyfiles import read_secret, token
from kmsconn.config.options import OptionTable
from kmsconn.config.parties import Chain, Chains, CoreTls, HostChain
from kmsconn.config.places import is_loopback
from kmsconn.config.settings import Settings
from kmsconn.config.structuring import HostChainEntry
from kmsconn.config.values import Secret, StatusPage


@attrs.frozen
class Written:
    """What the sources of a generation say: the typed value of each option, None where it is faulty or not set; and what was found.

    ``makers`` stand by the names of fields. ``environ`` may name files that hold keys.
    """

    table: OptionTable
    values: Mapping[str, Any] = attrs.field(repr=False)
    findings: Findings
    makers: Mapping[str, Maker]
    environ: Mapping[str, str] = attrs.field(repr=False)

    def place(self, name: str) -> str:
        """Return where a given option stands."""
        return self.findings.given[name].place

    def assemble(self) -> Settings | None:
        """Return the settings, or None when a fault was noted, now or before. Reads the files that hold keys."""
        made = {name: make(self) for name, make in self.makers.items()}
        return None if self.findings.faults else Settings(**values_of(Settings, self, made))


Maker = Callable[[Written], Any]
"""Makes the value of a field of several options; None for its default, or after noting what is wrong."""

_TOP: Final = Section()


def values_of(
    cls: type[attrs.AttrsInstance], written: Written, made: Mapping[str, Any], section: Section = _TOP
) -> dict[str, Any]:
    """Return the fields of a class that have another value than its default, or one that was written."""
    values = {}
    for field in fields_of(cls):
        if field.name in made:
            value = made[field.name]
        elif isinstance(field.kind, Form):
            value = written.values.get(written.table.named(section.name_of(field.option)))
        else:
            within = isinstance(field.kind, Section) and values_of(field.type, written, made, field.kind)
            value = field.type(**within) if within else None
        if value is not None:
            values[field.name] = value
    return values


def chains_of(written: Written) -> Chains:
    """Return the chains of fhevm; notes a host chain that is listed twice."""
    entries: tuple[HostChainEntry, ...] = written.values["host_chains"] or ()
    first: dict[int, int] = {}
    for index, entry in enumerate(entries):
        if entry.chain_id in first:
            written.findings.fault(
                f"{written.place('host_chains')}[{index}].chain_id",
                f"chain {entry.chain_id} is listed twice",
                f"it is host_chains[{first[entry.chain_id]}] too",
            )
        first.setdefault(entry.chain_id, index)
    hosts = (HostChain(Chain(one.chain_id, one.url), one.acl_address) for one in entries)
    return Chains(_chain(written.values, "gateway"), _chain(written.values, "ethereum"), tuple(hosts))


def _chain(values: Mapping[str, Any], name: str) -> Chain:
    """Websockets come first: calls, sends and the wake-up share one connection there (options.md)."""
    urls = (*(values[f"{name}_ws_url"] or ()), *(values[f"{name}_url"] or ()))
    return Chain(values[f"{name}_chain_id"], tuple(dict.fromkeys(urls)))


def core_tls_of(written: Written) -> CoreTls | None:
    """Return TLS towards the Core where a file of it is named; notes the missing half of a client certificate."""
    halves = ("core_tls.certificate_file", "core_tls.key_file")
    written.findings.require(*halves, beside=halves)
    files = values_of(CoreTls, written, {}, Section("core_tls"))
    return CoreTls(**files) if files else None


def status_page_token_of(written: Written) -> Secret | None:
    """Return the token for the status page; notes the fault where one is needed and missing."""
    values = written.values
    if values["status_page_token_file"] is not None:
        place = written.place("status_page_token_file")
        path, remedy = values["status_page_token_file"], "write one with: openssl rand -hex 32"
        return read_secret(place, path, written.findings, token, remedy)
    host = str(values["monitoring_endpoint"]).rpartition(":")[0]
    if values["status_page"] is StatusPage.ON and not is_loopback(host):
        written.findings.fault(
            written.place("status_page"),
            "needs status_page_token_file, since monitoring_endpoint is not a loopback address",
        )
    return None
