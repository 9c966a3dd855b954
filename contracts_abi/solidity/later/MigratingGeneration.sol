// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Generations} from "./Generations.sol";
import {KeyType} from "./KeyTypes.sol";
import {ProtocolConfig} from "./ProtocolConfig.sol";
import {KeyDigest, ParamsType} from "./Structs.sol";

/// KMSGeneration 0.3.0: a key may also be the migration of an existing one, to which its compressed key set is added. The id of a
/// migration never becomes a key. Its place is the same as before.
contract MigratingGeneration layout at 0x26fdaf8a2cb20d20b55e36218986905e534ee7a970dd2fa827946e4b7496db00
    is Generations
{
    event PrepKeygenRequest(
        uint256 prepKeygenId, ParamsType paramsType, uint256 existingKeyId, bytes extraData
    );
    event KeygenRequest(uint256 prepKeygenId, uint256 keyId, uint256 existingKeyId, bytes extraData);
    event ActivateKey(uint256 keyId, uint256 existingKeyId, string[] kmsNodeStorageUrls, KeyDigest[] keyDigests);

    error CompressedKeyMaterialsAlreadyAdded(uint256 keyId);
    error NotActiveKey(uint256 keyId);
    error InvalidMigrationParamsType(uint256 keyId, ParamsType expected, ParamsType provided);
    error InvalidCompressedKeySetDigest(uint256 migrationRequestId);

    constructor(address owner, ProtocolConfig config) Generations(owner, config) {}

    function keygen(ParamsType params, uint256 existingKeyId) external onlyOwner {
        _requireNoKeyOpen();
        if (existingKeyId != 0) _requireMigration(params, existingKeyId);
        (uint256 prepId, uint256 keyId) = _beginKey(params);
        if (existingKeyId != 0) {
            (_existingByRequest[keyId], _requestByExisting[existingKeyId]) = (existingKeyId, keyId);
        }
        emit PrepKeygenRequest(prepId, params, existingKeyId, _extraData[prepId]);
    }

    function keygenResponse(uint256 keyId, KeyDigest[] calldata digests, bytes calldata signature) external {
        _requireKeyReply(keyId, digests);
        uint256 existingKeyId = _existingByRequest[keyId];
        if (existingKeyId != 0) _requireOneCompressed(keyId, digests);
        (bool complete, uint256 context) = _takeKey(keyId, digests, signature);
        if (!complete) return;
        if (existingKeyId == 0) {
            _completeKey(keyId, digests);
        } else {
            _addCompressed(existingKeyId, digests);
        }
        emit ActivateKey(keyId, existingKeyId, _urls(context, keyId), digests);
    }

    function getVersion() external pure returns (string memory) {
        return "KMSGeneration v0.3.0";
    }

    function _askForKey(uint256 prepId, uint256 keyId) internal override {
        emit KeygenRequest(prepId, keyId, _existingByRequest[keyId], _extraData[prepId]);
    }

    function _requireGenerated(uint256 keyId) internal view override {
        require(_existingByRequest[keyId] == 0, KeyNotGenerated(keyId));
        super._requireGenerated(keyId);
    }

    function _materialRequest(uint256 keyId) internal view override returns (uint256) {
        uint256 request = _requestByExisting[keyId];
        return request != 0 && _consensus[request] != 0 ? request : keyId;
    }

    function _requireMigration(ParamsType params, uint256 existingKeyId) private view {
        _requireGenerated(existingKeyId);
        require(existingKeyId == _activeKey, NotActiveKey(existingKeyId));
        ParamsType expected = _params[existingKeyId];
        require(params == expected, InvalidMigrationParamsType(existingKeyId, expected, params));
        KeyDigest[] storage digests = _keyDigests[existingKeyId];
        for (uint256 i = 0; i < digests.length; ++i) {
            require(
                digests[i].keyType != KeyType.CompressedKeySet, CompressedKeyMaterialsAlreadyAdded(existingKeyId)
            );
        }
        require(_materialRequest(existingKeyId) == existingKeyId, CompressedKeyMaterialsAlreadyAdded(existingKeyId));
    }

    function _requireOneCompressed(uint256 keyId, KeyDigest[] calldata digests) private pure {
        uint256 count = 0;
        for (uint256 i = 0; i < digests.length; ++i) {
            if (digests[i].keyType != KeyType.CompressedKeySet) continue;
            require(digests[i].digest.length != 0, InvalidCompressedKeySetDigest(keyId));
            ++count;
        }
        require(count == 1, InvalidCompressedKeySetDigest(keyId));
    }

    function _addCompressed(uint256 existingKeyId, KeyDigest[] calldata digests) private {
        for (uint256 i = 0; i < digests.length; ++i) {
            if (digests[i].keyType == KeyType.CompressedKeySet) _keyDigests[existingKeyId].push(digests[i]);
        }
    }
}
