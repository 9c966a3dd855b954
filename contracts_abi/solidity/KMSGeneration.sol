// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Generations} from "./Generations.sol";
import {ProtocolConfig} from "./ProtocolConfig.sol";
import {KeyDigest, ParamsType} from "./Structs.sol";

/// Keys and CRS on Ethereum, one of each at a time: release 0.2.0. The order of the checks is: id, digests, sender, preprocessing,
/// signature, signer, and only then "already signed". Replies are taken late.
/// Its place is the ERC-7201 slot of "fhevm.storage.KMSGeneration".
contract KMSGeneration layout at 0x26fdaf8a2cb20d20b55e36218986905e534ee7a970dd2fa827946e4b7496db00
    is Generations
{
    event PrepKeygenRequest(uint256 prepKeygenId, ParamsType paramsType, bytes extraData);
    event KeygenRequest(uint256 prepKeygenId, uint256 keyId, bytes extraData);
    event ActivateKey(uint256 keyId, string[] kmsNodeStorageUrls, KeyDigest[] keyDigests);

    constructor(address owner, ProtocolConfig config) Generations(owner, config) {}

    function keygen(ParamsType params) external onlyOwner {
        _requireNoKeyOpen();
        (uint256 prepId,) = _beginKey(params);
        emit PrepKeygenRequest(prepId, params, _extraData[prepId]);
    }

    function keygenResponse(uint256 keyId, KeyDigest[] calldata digests, bytes calldata signature) external {
        _requireKeyReply(keyId, digests);
        (bool complete, uint256 context) = _takeKey(keyId, digests, signature);
        if (!complete) return;
        _completeKey(keyId, digests);
        emit ActivateKey(keyId, _urls(context, keyId), digests);
    }

    function getVersion() external pure returns (string memory) {
        return "KMSGeneration v0.2.0";
    }

    function _askForKey(uint256 prepId, uint256 keyId) internal override {
        emit KeygenRequest(prepId, keyId, _extraData[prepId]);
    }
}
