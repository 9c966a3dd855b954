"""From typed option values to ``Settings``, with the faults that only show between options. Never reads a source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kmsconn.config import forms
from kmsconn.config.findings import Findings
from kmsconn.config.http_api import http_api_of
from kmsconn.config.keyfiles import read_token
from kmsconn.config.options import FHEVM, OptionTable
from kmsconn.config.settings import (
    AwsKmsKey,
    Chain,
    Contract,
    CoreTls,
    Deadlines,
    HostChain,
    Pools,
    Retention,
    Secret,
    Settings,
    StatusPage,
)
from kmsconn.config.storage import journal_of
from kmsconn.config.structuring import HostChainEntry

_CONTRACTS = (
    "decryption_contract",
    "gateway_config_contract",
    "protocol_config_contract",
    "kms_generation_contract",
)


def assemble(
    values: Mapping[str, Any], wallet: Secret | AwsKmsKey | None, findings: Findings
) -> Settings | None:
    """Return the settings, or None when a fault was noted, now or before."""
    _check_host_chains(values["host_chains"] or (), findings)
    check_core_tls(findings)
    token = status_page_token(values, findings)
    journal = journal_of(values, findings)
    http_api = http_api_of(values, findings)
    if findings.faults:
        return None
    table = FHEVM
    return Settings.of(
        gateway=_chain(values, "gateway"),
        ethereum=_chain(values, "ethereum"),
        host_chains=tuple(_host_chain(entry) for entry in values["host_chains"]),
        core_endpoints=values["kms_core_endpoints"],
        private_key=wallet if isinstance(wallet, Secret) else None,
        aws_kms=wallet if isinstance(wallet, AwsKmsKey) else None,
        core_tls=core_tls(table, values),
        status_page_token=token,
        pools=Pools(**section(table, values, "pools")),
        deadlines=Deadlines(**section(table, values, "deadlines")),
        retention=Retention(**section(table, values, "retention")),
        http_api=http_api,
        warnings=tuple(findings.warnings),
        decryption_contract=Contract(**section(table, values, "decryption_contract")),
        gateway_config_contract=Contract(**section(table, values, "gateway_config_contract")),
        protocol_config_contract=Contract(**section(table, values, "protocol_config_contract")),
        kms_generation_contract=Contract(**section(table, values, "kms_generation_contract")),
        **plain(table, {**values, "journal": journal}),
    )


def _check_host_chains(entries: tuple[HostChainEntry, ...], findings: Findings) -> None:
    first: dict[int, int] = {}
    for index, entry in enumerate(entries):
        if entry.chain_id in first:
            place = f"{findings.given['host_chains'].place}[{index}].chain_id"
            findings.fault(
                place,
                f"chain {entry.chain_id} is listed twice",
                f"it is host_chains[{first[entry.chain_id]}] too",
            )
        first.setdefault(entry.chain_id, index)


def check_core_tls(findings: Findings) -> None:
    """Note the missing half where one file of the client certificate is named."""
    halves = ("core_tls.certificate_file", "core_tls.key_file")
    given = [name for name in halves if name in findings.given]
    if len(given) == 1:
        missing = next(name for name in halves if name not in given)
        findings.fault(missing, f"is required beside {given[0]}")


def status_page_token(values: Mapping[str, Any], findings: Findings) -> Secret | None:
    """Return the token for the status page; notes the fault where one is needed and missing."""
    path = values["status_page_token_file"]
    if path is not None:
        return read_token(findings.given["status_page_token_file"].place, path, findings)
    host = str(values["monitoring_endpoint"]).rpartition(":")[0]
    if values["status_page"] is StatusPage.ON and not forms.is_loopback(host):
        findings.fault(
            findings.given["status_page"].place,
            "needs status_page_token_file, since monitoring_endpoint is not a loopback address",
        )
    return None


def _chain(values: Mapping[str, Any], name: str) -> Chain:
    """Websockets come first: calls, sends and the wake-up share one connection there (options.md)."""
    urls = (*(values[f"{name}_ws_url"] or ()), *values[f"{name}_url"])
    return Chain(values[f"{name}_chain_id"], tuple(dict.fromkeys(urls)))


def _host_chain(entry: HostChainEntry) -> HostChain:
    return HostChain(Chain(entry.chain_id, entry.url), entry.acl_address)


def core_tls(table: OptionTable, values: Mapping[str, Any]) -> CoreTls | None:
    """Return TLS towards the Core where a file of it is named."""
    files = section(table, values, "core_tls")
    return CoreTls(**files) if any(files.values()) else None


def section(table: OptionTable, values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the values of the options that become the fields of one nested setting."""
    parts = ((option, *option.setting.partition(".")[::2]) for option in table.options.values())
    return {field: values[option.name] for option, head, field in parts if head == name and field}


def plain(table: OptionTable, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that become a field of ``Settings`` as they are."""
    compound = {"", "host_chains", "core_endpoints"}
    options = (
        option
        for option in table.options.values()
        if "." not in option.setting and option.setting not in compound
    )
    return {option.setting: values[option.name] for option in options}
