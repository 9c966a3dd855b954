"""The generations that can be configured: the options of each, and what makes its settings of several options. Data; reads nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import attrs

from kmsconn.config import assembly, httpz
from kmsconn.config.assembly import Maker
from kmsconn.config.findings import Findings
from kmsconn.config.http_api import http_api_of
from kmsconn.config.httpz import HTTPZ_RC7
from kmsconn.config.options import FHEVM, OptionTable
from kmsconn.config.storage import journal_of
from kmsconn.config.wallets import wallet_of
from kmsconn.model import profiles


@attrs.frozen
class Generation:
    """How the options of one generation become settings; ``tidy`` looks at what was given before it is typed."""

    table: OptionTable
    makers: Mapping[str, Maker]
    tidy: Callable[[Findings], None] = lambda _: None


_SHARED: Final[Mapping[str, Maker]] = {
    "core_tls": assembly.core_tls_of,
    "wallet": wallet_of,
    "status_page_token": assembly.status_page_token_of,
    "journal": journal_of,
}

GENERATIONS: Final[Mapping[str, Generation]] = {
    profiles.FHEVM: Generation(FHEVM, {**_SHARED, "chains": assembly.chains_of, "http_api": http_api_of}),
    profiles.HTTPZ_RC7: Generation(
        HTTPZ_RC7,
        {
            **_SHARED,
            "chains": httpz.chains_of,
            "protocol_config_contract": httpz.httpz_of,
            "kms_generation_contract": httpz.key_manager_of,
            "attestation": httpz.attestation_of,
            "s3": httpz.s3_of,
        },
        httpz.tidy,
    ),
}
