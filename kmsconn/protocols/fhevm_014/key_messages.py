"""Requests of key management to the Core, byte for byte. Never reads an answer; those are for ``key_replies``.

Contexts, epochs and their ends go to every endpoint: the 0.14 connector told one of them, and not always the same (P4).
Source: fhevm-0.14.md, 5.1-5.5; kms-core-grpc.md, 3.3-3.5 and 6.6.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from kmsconn.errors import Rejected
from kmsconn.ethereum.eip712 import Domain
from kmsconn.protocols.core_parts import domain_message, request_id
from kmsconn.protocols.fhevm_014 import extra_data
from kmsconn.protocols.fhevm_014.key_events import (
    Crsgen,
    Keygen,
    NewContext,
    NewEpoch,
    Node,
    PrepKeygen,
)
from kmsconn.protocols.port import Chunks, CoreCall, Meaning
from kmsconn.protocols.proto_writer import bytes_field, int_field, message_field, text_field

# Standard keys on a CPU, all of them generated: none compressed (5.4), or all (annex C). Zeros stand nowhere.
KEY_SET = message_field(2, int_field(3, 1))
COMPRESSED_KEY_SET = b"\x12\x00"
KEY_TYPES = {0: "ServerKey", 1: "PublicKey", 3: "CompressedXofKeySet"}
"""The contract's numbers of key types with their names; the last one is of compressed key sets (annex C)."""

_INT32 = 1 << 31
_LOW_32_BITS = (1 << 32) - 1
_NOTHING_RUNS = {"NOT_FOUND": Meaning.SUCCESS}
# Shares of what was destroyed must not stay on a node, so nothing that a Core says to it is for ever.
_UNTIL_DONE = {
    **_NOTHING_RUNS,
    **dict.fromkeys(
        ("INVALID_ARGUMENT", "FAILED_PRECONDITION", "OUT_OF_RANGE", "DATA_LOSS", "INTERNAL"), Meaning.WAIT
    ),
}
_PERHAPS_THERE = {"INVALID_ARGUMENT": Meaning.DOUBT}


@attrs.frozen
class KeyMaterial:
    """One key as the contract knows it: its ids, parameters, and digests with their types' numbers."""

    prep_id: int
    id: int
    params: int
    digests: tuple[tuple[int, bytes], ...]


@attrs.frozen
class EpochMaterial:
    """What an epoch reshares: keys, and common reference strings with their digests, each in the contract's order."""

    keys: tuple[KeyMaterial, ...]
    crs: tuple[tuple[int, bytes], ...]


Ids = tuple[int | None, int | None]


def prep_keygen(domain: Domain, content: PrepKeygen, ids: Ids, key_set: bytes = KEY_SET) -> CoreCall:
    """Return the start of a preparation (E1)."""
    parts = [
        message_field(1, request_id(content.id)),
        int_field(2, content.params),
        message_field(3, key_set),
        message_field(4, domain_message(domain)),
        *_ids(5, ids),
        bytes_field(7, content.extra_data),
    ]
    return CoreCall("KeyGenPreproc", Chunks([b"".join(parts)]), content.id)


def keygen(domain: Domain, content: Keygen, ids: Ids, key_set: bytes = KEY_SET) -> CoreCall:
    """Return the start of a key generation (E2); it meets the endpoint that has its preparation."""
    parts = [
        message_field(1, request_id(content.id)),
        message_field(3, request_id(content.prep_id)),
        message_field(4, domain_message(domain)),
        message_field(5, key_set),
        *_ids(7, ids),
        bytes_field(9, content.extra_data),
    ]
    return CoreCall("KeyGen", Chunks([b"".join(parts)]), content.prep_id)


def crsgen(domain: Domain, content: Crsgen, ids: Ids) -> CoreCall:
    """Return the start of a CRS generation (E3)."""
    parts = [
        message_field(1, request_id(content.id)),
        int_field(2, content.params),
        _present_int(3, content.max_bits & _LOW_32_BITS),
        message_field(4, domain_message(domain)),
        *_ids(5, ids),
        bytes_field(7, content.extra_data),
    ]
    return CoreCall("CrsGen", Chunks([b"".join(parts)]), content.id)


def abort(method: str, identifier: int) -> CoreCall:
    """Return an abort (E4, E5); that nothing runs is as good."""
    return CoreCall(method, Chunks([request_id(identifier)]), identifier, _NOTHING_RUNS)


def result(method: str, identifier: int, shard: int) -> CoreCall:
    """Return the long poll for a result; it goes where the start went (5.5)."""
    return CoreCall(method, Chunks([request_id(identifier)]), shard)


def new_context(context: NewContext) -> CoreCall:
    """Return the announcement of a context (E6). Raises Rejected for a threshold that is no int32."""
    if not -_INT32 <= context.threshold < _INT32:
        raise Rejected(f"an MPC threshold of {context.threshold} cannot be told to the Core")
    parts = [
        *(message_field(1, _node(node)) for node in context.nodes),
        message_field(2, request_id(context.id)),
        text_field(3, context.software_version),
        int_field(4, context.threshold),
        *(message_field(5, _three(values)) for values in context.pcr_values),
    ]
    return CoreCall("NewMpcContext", Chunks([message_field(2, b"".join(parts))]), None)


def new_epoch(domain: Domain, content: NewEpoch, material: EpochMaterial) -> CoreCall:
    """Return the start of an epoch (E7). INVALID_ARGUMENT may say that it is there already: its result tells (L8)."""
    previous = [
        message_field(1, request_id(content.previous_context_id)),
        message_field(2, request_id(content.previous_epoch_id)),
        *(message_field(3, _key(key)) for key in material.keys),
        *(
            message_field(4, message_field(1, request_id(i)) + bytes_field(2, digest))
            for i, digest in material.crs
        ),
    ]
    parts = [
        message_field(1, request_id(content.context_id)),
        message_field(2, request_id(content.id)),
        message_field(3, b"".join(previous)),
        message_field(4, domain_message(domain)),
        bytes_field(5, extra_data.build(content.context_id, content.id)),
    ]
    return CoreCall("NewMpcEpoch", Chunks([b"".join(parts)]), None, _PERHAPS_THERE)


def destroy_context(context_id: int, epoch_ids: Sequence[int]) -> CoreCall:
    """Return the end of a context and of its epochs (E8); that the Core has none is as good, and every other refusal is tried again."""
    parts = [message_field(1, request_id(context_id))]
    parts += [message_field(2, request_id(epoch_id)) for epoch_id in epoch_ids]
    return CoreCall("DestroyMpcContext", Chunks([b"".join(parts)]), None, _UNTIL_DONE)


def destroy_epoch(epoch_id: int) -> CoreCall:
    """Return the end of an epoch; that the Core has none is as good, and every other refusal is tried again."""
    message = message_field(1, request_id(epoch_id))
    return CoreCall("DestroyMpcEpoch", Chunks([message]), None, _UNTIL_DONE)


def _node(node: Node) -> bytes:
    """Return an MpcNode. A certificate that is empty is left out: the Core refuses one that is present and no PEM (6.6)."""
    return b"".join(
        [
            text_field(1, node.mpc_identity),
            int_field(2, node.party_id),
            message_field(3, node.signer),
            text_field(4, node.ip_address),
            bytes_field(5, node.ca_cert),
            text_field(6, node.storage_url),
            message_field(7, node.storage_prefix.encode()),
            message_field(8, node.tx_sender),
        ]
    )


def _three(values: tuple[bytes, bytes, bytes]) -> bytes:
    return b"".join(bytes_field(number, value) for number, value in enumerate(values, 1))


def _key(key: KeyMaterial) -> bytes:
    digests = (text_field(1, KEY_TYPES[kind]) + bytes_field(2, digest) for kind, digest in key.digests)
    parts = [
        message_field(1, request_id(key.id)),
        message_field(2, request_id(key.prep_id)),
        int_field(3, key.params),
    ]
    return b"".join([*parts, *(message_field(4, digest) for digest in digests)])


def _ids(first: int, ids: Ids) -> list[bytes]:
    return [message_field(n, request_id(one)) for n, one in enumerate(ids, first) if one is not None]


def _present_int(field: int, value: int) -> bytes:
    """Write a field with presence, which is there even when it is 0."""
    return int_field(field, value) or bytes([field << 3, 0])
