"""The generation httpz-rc7 from its options: its rules for empty values, and its settings. Reads no source.

One gateway has it all, so the settings name it as Ethereum too. Source: httpz-rc7.md 6.1 and 6.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kmsconn.config.assembly import check_core_tls, core_tls, plain, section, status_page_token
from kmsconn.config.findings import Findings
from kmsconn.config.httpz_options import HTTPZ_RC7
from kmsconn.config.settings import (
    AttestationMode,
    AwsKmsKey,
    Chain,
    Contract,
    Deadlines,
    Httpz,
    Pools,
    Retention,
    S3Fallback,
    Secret,
    Settings,
)
from kmsconn.config.storage import journal_of

_DOMAINS = tuple(
    f"{contract}_domain_{part}"
    for contract in ("decryption_manager", "httpz")
    for part in ("name", "version")
)


def tidy(findings: Findings) -> None:
    """Take empty values off: of a domain the default is used and told, what must be configured is a fault, all others count as unset."""
    for name, given in list(findings.given.items()):
        if not isinstance(given.value, str) or given.value.strip():
            continue
        del findings.given[name]
        if name in _DOMAINS:
            findings.warn(given.place, f"is empty: the default {HTTPZ_RC7.options[name].default} is used")
        elif HTTPZ_RC7.options[name].in_file:
            findings.fault(given.place, "is not configured: it is empty")


def assemble(
    values: Mapping[str, Any], wallet: Secret | AwsKmsKey | None, findings: Findings
) -> Settings | None:
    """Return the settings, or None when a fault was noted, now or before."""
    check_core_tls(findings)
    _check_domains(values, findings)
    s3 = _s3(values, findings)
    token = status_page_token(values, findings)
    journal = journal_of(values, findings)
    if values["tolerant_digests"]:
        findings.warn(
            findings.given["tolerant_digests"].place,
            "is on: the connector sends ciphertexts to the Core although their digest differs from the one on chain",
        )
    if findings.faults:
        return None
    table = HTTPZ_RC7
    gateway = Chain(values["chain_id"], values["gwl2_url"])
    httpz = Contract(**section(table, values, "gateway_config_contract"))
    own = {name: value for name, value in section(table, values, "httpz").items() if value is not None}
    return Settings.of(
        gateway=gateway,
        ethereum=gateway,
        host_chains=(),
        core_endpoints=values["kms_core_endpoint"],
        private_key=wallet if isinstance(wallet, Secret) else None,
        aws_kms=wallet if isinstance(wallet, AwsKmsKey) else None,
        core_tls=core_tls(table, values),
        status_page_token=token,
        pools=Pools(**section(table, values, "pools")),
        deadlines=Deadlines(**section(table, values, "deadlines")),
        retention=Retention(**section(table, values, "retention")),
        attestation=AttestationMode.OFF,
        httpz=Httpz(**own, s3=s3),
        decryption_contract=Contract(**section(table, values, "decryption_contract")),
        gateway_config_contract=httpz,
        protocol_config_contract=httpz,
        kms_generation_contract=Contract(values["key_manager_address"] or httpz.address, "KeyManager"),
        warnings=tuple(findings.warnings),
        **plain(table, {**values, "journal": journal}),
    )


def _check_domains(values: Mapping[str, Any], findings: Findings) -> None:
    """Warn about domains that other encoders of EIP-712 may read differently."""
    for name in _DOMAINS:
        value = values[name]
        if isinstance(value, str) and not (value.isascii() and value.isprintable()):
            findings.warn(
                findings.given[name].place,
                "holds characters that other encoders of EIP-712 may read differently",
            )


def _s3(values: Mapping[str, Any], findings: Findings) -> S3Fallback | None:
    region, bucket, endpoint = (values[f"s3_config.{name}"] for name in ("region", "bucket", "endpoint"))
    given = [name for name in findings.given if name.startswith("s3_config.")]
    if not given:
        findings.warn("s3_config", "is missing: a ciphertext without a bucket on chain cannot be found")
        return None
    for part in ("s3_config.region", "s3_config.bucket"):
        if part not in given:
            findings.fault(part, f"is required beside {given[0]}")
    if isinstance(endpoint, str) and endpoint.startswith("http:") and not values["allow_http_buckets"]:
        place = findings.given["s3_config.endpoint"].place
        findings.warn(place, "has no TLS: the connector does not use it unless allow_http_buckets is true")
    return None if region is None or bucket is None else S3Fallback(region, bucket, endpoint)
