"""A key check from its event to its reply, over a package that has the invented operation. Run by ``test_adding_an_operation``."""

from __future__ import annotations

from typing import Any

import attrs
import trio

from kmsconn._generated.fhevm.kms.v1 import KeyGenPreprocResult, KeyGenRequest, RequestId
from kmsconn.ethereum.abi import hash_struct, signing_digest
from kmsconn.ethereum.ids import id_hex
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.model.life import Gathered, Submitted
from kmsconn.model.requests import EventPlace, Kind, PoolName, Request
from kmsconn.observe.families import event_type
from kmsconn.protocols.fhevm.contracts import KMS_GENERATION
from kmsconn.protocols.fhevm.operations import build_extra_data
from kmsconn.protocols.port import Verdict
from tests.unit.protocols.key_checks import EVENT, RESPONSE, SIGNED_TYPE
from tests.unit.requests.test_stages import Core, stages
from tests.vectors import keys

KIND = Kind("key_check")
NODE = PrivateKey(bytes(31) + b"\x05")
CHECK, KEY, CONTEXT = 9, 4 << 248 | 1, 7 << 248 | 1


async def main() -> None:
    """Follow one request through what the tree asks of a profile."""
    profile = keys.PROFILE
    topics, data = EVENT.encode(CHECK, KEY, build_extra_data(CONTEXT, None))
    log = attrs.evolve(keys.log("keygen_default"), topics=topics, data=data)

    [subscription] = [one for one in profile.subscriptions() if EVENT.topic0 in one.topics]
    assert (subscription.contract, subscription.finalized) == (log.address, True)

    content: Any = profile.decode(log)
    assert (content.kind, content.id, content.context) == (KIND, CHECK, (CONTEXT, None))
    assert content.order.under == {CONTEXT}
    assert (profile.id_of(log), len(profile.digest(log))) == (CHECK, 32)

    operation = profile.operations[KIND]
    assert (operation.pool, operation.spare(0)) == (PoolName.KEY_GENERATION, 500_000)
    assert event_type(KIND) == "key_check_request"

    struct = hash_struct(SIGNED_TYPE, CHECK, KEY, content.extra_data)
    signature = NODE.sign(signing_digest(profile.deployment.generation, struct))
    core = Core(bytes(KeyGenPreprocResult(RequestId(id_hex(CHECK)), signature)))
    place = EventPlace(log.block_number, log.block_hash, log.transaction_hash, log.log_index)
    request = Request(1, subscription.chain_id, log.address, content, profile.digest(log), place, 1e12)
    line = attrs.evolve(stages(core, NODE.address), profile=profile)
    submitted = await line.submit(Gathered(request, CONTEXT, None, ()))
    answered = await line.answer(submitted)
    assert isinstance(submitted, Submitted)
    assert [call.method for call in (*core.started, *core.polled)] == ["CheckKey", "GetKeyCheckResult"]
    assert KeyGenRequest.parse(bytes(core.started[0].message)).preproc_id == RequestId(id_hex(KEY))
    assert answered.answer is not None
    assert answered.answer.calldata == RESPONSE.encode(CHECK, signature)

    told = KMS_GENERATION.error("KmsAlreadySignedForKeygen").encode(CHECK, NODE.address)
    assert operation.revert(told).verdict is Verdict.DONE


if __name__ == "__main__":
    trio.run(main)
