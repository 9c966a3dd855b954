"""Requests of key management to the Core. Never reads an answer; those are for ``key_replies``.

Contexts, epochs and their ends go to every endpoint: the 0.14 connector told one of them, and not always the same (P4).
Source: fhevm-0.14.md, 5.1-5.5; kms-core-grpc.md, 3.3-3.5 and 6.6.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from kmsconn._generated.fhevm_014.kms import v1 as kms
from kmsconn.errors import Rejected
from kmsconn.ethereum.eip712 import Domain
from kmsconn.protocols.fhevm_014 import extra_data
from kmsconn.protocols.fhevm_014.key_events import (
    Crsgen,
    Keygen,
    NewContext,
    NewEpoch,
    Node,
    PrepKeygen,
)
from kmsconn.protocols.fhevm_014.messages import domain_message, optional_id, request_id
from kmsconn.protocols.port import CoreCall, Meaning
from kmsconn.protocols.proto_writer import encode

# Standard keys on a CPU, all of them generated: none compressed (5.4), or all (annex C).
KEY_SET, COMPRESSED_KEY_SET = (
    kms.KeySetConfig(standard_keyset_config=kms.StandardKeySetConfig(compressed_key_config=compressed))
    for compressed in (kms.CompressedKeyConfig.CompressedNone, kms.CompressedKeyConfig.CompressedAll)
)
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


def prep_keygen(
    domain: Domain, content: PrepKeygen, ids: Ids, key_set: kms.KeySetConfig = KEY_SET
) -> CoreCall:
    """Return the start of a preparation (E1)."""
    context_id, epoch_id = ids
    message = kms.KeyGenPreprocRequest(
        request_id=request_id(content.id),
        params=kms.FheParameter(content.params),
        keyset_config=key_set,
        domain=domain_message(domain),
        context_id=optional_id(context_id),
        epoch_id=optional_id(epoch_id),
        extra_data=content.extra_data,
    )
    return CoreCall("KeyGenPreproc", encode(message), content.id)


def keygen(domain: Domain, content: Keygen, ids: Ids, key_set: kms.KeySetConfig = KEY_SET) -> CoreCall:
    """Return the start of a key generation (E2); it meets the endpoint that has its preparation."""
    context_id, epoch_id = ids
    message = kms.KeyGenRequest(
        request_id=request_id(content.id),
        preproc_id=request_id(content.prep_id),
        domain=domain_message(domain),
        keyset_config=key_set,
        context_id=optional_id(context_id),
        epoch_id=optional_id(epoch_id),
        extra_data=content.extra_data,
    )
    return CoreCall("KeyGen", encode(message), content.prep_id)


def crsgen(domain: Domain, content: Crsgen, ids: Ids) -> CoreCall:
    """Return the start of a CRS generation (E3)."""
    context_id, epoch_id = ids
    message = kms.CrsGenRequest(
        request_id=request_id(content.id),
        params=kms.FheParameter(content.params),
        max_num_bits=content.max_bits & _LOW_32_BITS,
        domain=domain_message(domain),
        context_id=optional_id(context_id),
        epoch_id=optional_id(epoch_id),
        extra_data=content.extra_data,
    )
    return CoreCall("CrsGen", encode(message), content.id)


def abort(method: str, identifier: int) -> CoreCall:
    """Return an abort (E4, E5); that nothing runs is as good."""
    return CoreCall(method, encode(request_id(identifier)), identifier, _NOTHING_RUNS)


def new_context(context: NewContext) -> CoreCall:
    """Return the announcement of a context (E6). Raises Rejected for a threshold that is no int32."""
    if not -_INT32 <= context.threshold < _INT32:
        raise Rejected(f"an MPC threshold of {context.threshold} cannot be told to the Core")
    told = kms.MpcContext(
        mpc_nodes=[_node(node) for node in context.nodes],
        context_id=request_id(context.id),
        software_version=context.software_version,
        threshold=context.threshold,
        pcr_values=[kms.PcrValues(*values) for values in context.pcr_values],
    )
    return CoreCall("NewMpcContext", encode(kms.NewMpcContextRequest(told)), None)


def new_epoch(domain: Domain, content: NewEpoch, material: EpochMaterial) -> CoreCall:
    """Return the start of an epoch (E7). INVALID_ARGUMENT may say that it is there already: its result tells (L8)."""
    previous = kms.PreviousEpochInfo(
        context_id=request_id(content.previous_context_id),
        epoch_id=request_id(content.previous_epoch_id),
        keys_info=[_key(key) for key in material.keys],
        crs_info=[kms.CrsInfo(request_id(crs_id), digest) for crs_id, digest in material.crs],
    )
    message = kms.NewMpcEpochRequest(
        context_id=request_id(content.context_id),
        epoch_id=request_id(content.id),
        previous_epoch=previous,
        domain=domain_message(domain),
        extra_data=extra_data.build(content.context_id, content.id),
    )
    return CoreCall("NewMpcEpoch", encode(message), None, _PERHAPS_THERE)


def destroy_context(context_id: int, epoch_ids: Sequence[int]) -> CoreCall:
    """Return the end of a context and of its epochs (E8); that the Core has none is as good, and every other refusal is tried again."""
    message = kms.DestroyMpcContextRequest(request_id(context_id), [request_id(one) for one in epoch_ids])
    return CoreCall("DestroyMpcContext", encode(message), None, _UNTIL_DONE)


def destroy_epoch(epoch_id: int) -> CoreCall:
    """Return the end of an epoch; that the Core has none is as good, and every other refusal is tried again."""
    message = kms.DestroyMpcEpochRequest(request_id(epoch_id))
    return CoreCall("DestroyMpcEpoch", encode(message), None, _UNTIL_DONE)


def _node(node: Node) -> kms.MpcNode:
    """Return a node. A certificate that is empty is left out: the Core refuses one that is present and no PEM (6.6)."""
    return kms.MpcNode(
        mpc_identity=node.mpc_identity,
        party_id=node.party_id,
        signer_address=node.signer,
        external_url=node.ip_address,
        ca_cert=node.ca_cert or None,
        public_storage_url=node.storage_url,
        public_storage_prefix=node.storage_prefix,
        extra_signer_addresses=[node.tx_sender],
    )


def _key(key: KeyMaterial) -> kms.KeyInfo:
    return kms.KeyInfo(
        key_id=request_id(key.id),
        preproc_id=request_id(key.prep_id),
        key_parameters=kms.FheParameter(key.params),
        key_digests=[kms.KeyDigest(KEY_TYPES[kind], digest) for kind, digest in key.digests],
    )
