"""Clients of decryption over HTTP in test worlds: contents whose ciphertexts and rights are in their places. Sends nothing."""

from __future__ import annotations

from typing import Any

from kmsconn.emulator.contracts.decryption_requests import UNIFIED_CALL
from kmsconn.emulator.traffic import Traffic
from kmsconn.protocols.fhevm.abi import DECRYPTION
from kmsconn.protocols.fhevm.http_operations import HttpPublicDecryption, HttpUserDecryption
from kmsconn.protocols.fhevm.user_decryption import HandleEntry

POSTED = ("public", "unified", "unified_delegated", "wallet")
"""The forms of requests from the chain that there are over HTTP too."""


def post(traffic: Traffic, form: str, **changes: Any) -> HttpPublicDecryption | HttpUserDecryption:
    """Return what a client posts in place of a transaction of a form; ``changes`` are to the values of a user's request."""
    calldata = traffic.prepare(form).calldata
    if form == "public":
        return HttpPublicDecryption.of(*DECRYPTION.function("publicDecryptionRequest").decode(calldata))
    entries, user, public_key, contracts, (start, duration), signature, extra_data = DECRYPTION.function(
        UNIFIED_CALL
    ).decode(calldata)
    values = {
        "user": user,
        "public_key": public_key,
        "allowed_contracts": contracts,
        "start": start,
        "duration": duration,
        "extra_data": extra_data,
        "signature": signature,
    }
    return HttpUserDecryption.of([HandleEntry(*entry) for entry in entries], **{**values, **changes})
