// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {GenerationHashes} from "./GenerationHashes.sol";
import {KMSGenerationState} from "./KMSGenerationState.sol";
import {Owned} from "./Owned.sol";
import {ProtocolConfig} from "./ProtocolConfig.sol";
import {Signatures} from "./Signatures.sol";
import {KeyDigest, KeyInfo, ParamsType} from "./Structs.sol";

/// What all releases of KMSGeneration share: CRS, preparations, aborts, views, and how replies are counted.
abstract contract Generations is KMSGenerationState, Owned {
    event PrepKeygenResponse(uint256 prepKeygenId, bytes signature, address kmsTxSender);
    event KeygenResponse(uint256 keyId, KeyDigest[] keyDigests, bytes signature, address kmsTxSender);
    event CrsgenRequest(uint256 crsId, uint256 maxBitLength, ParamsType paramsType, bytes extraData);
    event CrsgenResponse(uint256 crsId, bytes crsDigest, bytes signature, address kmsTxSender);
    event ActivateCrs(uint256 crsId, string[] kmsNodeStorageUrls, bytes crsDigest);
    event AbortKeygen(uint256 prepKeygenId);
    event AbortCrsgen(uint256 crsId);

    error InvalidKmsContext(uint256 kmsContextId);
    error KeygenOngoing(uint256 keyId);
    error CrsgenOngoing(uint256 crsId);
    error AbortKeygenInvalidId(uint256 prepKeygenId);
    error AbortKeygenAlreadyDone(uint256 prepKeygenId);
    error AbortCrsgenInvalidId(uint256 crsId);
    error AbortCrsgenAlreadyDone(uint256 crsId);
    error PrepKeygenNotRequested(uint256 prepKeygenId);
    error KeygenNotRequested(uint256 keyId);
    error CrsgenNotRequested(uint256 crsId);
    error EmptyKeyDigests(uint256 keyId);
    error KeyManagementRequestPending();
    error NotKmsTxSender(address txSenderAddress);
    error NotKmsSigner(address signerAddress);
    error KmsSignerDoesNotMatchTxSender(address signerAddress, address txSenderAddress);
    error KmsAlreadySignedForPrepKeygen(uint256 prepKeygenId, address kmsSigner);
    error KmsAlreadySignedForKeygen(uint256 keyId, address kmsSigner);
    error KmsAlreadySignedForCrsgen(uint256 crsId, address kmsSigner);
    error KeyAborted(uint256 keyId);
    error KeyNotGenerated(uint256 keyId);
    error CrsAborted(uint256 crsId);
    error CrsNotGenerated(uint256 crsId);

    uint256 internal constant PREP_TAG = 3 << 248;
    uint256 internal constant KEY_TAG = 4 << 248;
    uint256 private constant CRS_TAG = 5 << 248;
    ProtocolConfig private immutable CONFIG;

    constructor(address owner, ProtocolConfig config) Owned(owner) {
        CONFIG = config;
        (_prepCounter, _keyCounter, _crsCounter) = (PREP_TAG, KEY_TAG, CRS_TAG);
    }

    function crsgenRequest(uint256 maxBitLength, ParamsType params) external onlyOwner {
        require(_crsCounter == CRS_TAG || _done[_crsCounter], CrsgenOngoing(_crsCounter));
        uint256 crsId = ++_crsCounter;
        _bits[crsId] = maxBitLength;
        _extraData[crsId] = _current();
        emit CrsgenRequest(crsId, maxBitLength, params, _extraData[crsId]);
    }

    function abortKeygen(uint256 prepId) external onlyOwner {
        require(prepId > PREP_TAG && prepId <= _prepCounter, AbortKeygenInvalidId(prepId));
        uint256 keyId = _pair[prepId];
        require(!_done[keyId], AbortKeygenAlreadyDone(prepId));
        _done[prepId] = _done[keyId] = true;
        emit AbortKeygen(prepId);
    }

    function abortCrsgen(uint256 crsId) external onlyOwner {
        require(crsId > CRS_TAG && crsId <= _crsCounter, AbortCrsgenInvalidId(crsId));
        require(!_done[crsId], AbortCrsgenAlreadyDone(crsId));
        _done[crsId] = true;
        emit AbortCrsgen(crsId);
    }

    function prepKeygenResponse(uint256 prepId, bytes calldata signature) external {
        require(prepId > PREP_TAG && prepId <= _prepCounter, PrepKeygenNotRequested(prepId));
        uint256 context = _requireMember(prepId);
        bytes32 digest = _digest(GenerationHashes.prepKeygen(prepId, _extraData[prepId]));
        address signer = _signer(context, digest, signature);
        require(!_answered[prepId][signer], KmsAlreadySignedForPrepKeygen(prepId, signer));
        emit PrepKeygenResponse(prepId, signature, msg.sender);
        if (_take(context, prepId, signer, digest)) {
            _askForKey(prepId, _pair[prepId]);
        }
    }

    function crsgenResponse(uint256 crsId, bytes calldata crsDigest, bytes calldata signature) external {
        require(crsId > CRS_TAG && crsId <= _crsCounter, CrsgenNotRequested(crsId));
        uint256 context = _requireMember(crsId);
        bytes32 digest = _digest(GenerationHashes.crsgen(crsId, _bits[crsId], crsDigest, _extraData[crsId]));
        address signer = _signer(context, digest, signature);
        require(!_answered[crsId][signer], KmsAlreadySignedForCrsgen(crsId, signer));
        emit CrsgenResponse(crsId, crsDigest, signature, msg.sender);
        if (_take(context, crsId, signer, digest)) {
            _crsDigests[crsId] = crsDigest;
            _completedCrs.push(crsId);
            _activeCrs = crsId;
            emit ActivateCrs(crsId, _urls(context, crsId), crsDigest);
        }
    }

    function getKeyCounter() external view returns (uint256) {
        return _keyCounter;
    }

    function getCrsCounter() external view returns (uint256) {
        return _crsCounter;
    }

    function getActiveKeyId() external view returns (uint256) {
        return _activeKey;
    }

    function getActiveCrsId() external view returns (uint256) {
        return _activeCrs;
    }

    function getCompletedKeyIds() external view returns (uint256[] memory) {
        return _completedKeys;
    }

    function getCompletedCrsIds() external view returns (uint256[] memory) {
        return _completedCrs;
    }

    function isRequestDone(uint256 id) external view returns (bool) {
        return _done[id];
    }

    function getConsensusTxSenders(uint256 id) external view returns (address[] memory) {
        return _senders[id][_consensus[id]];
    }

    function getKeyInfo(uint256 keyId) external view returns (KeyInfo memory) {
        _requireGenerated(keyId);
        return KeyInfo(_pair[keyId], keyId, _params[keyId], _keyDigests[keyId]);
    }

    function getCrsMaterials(uint256 crsId) external view returns (string[] memory, bytes memory) {
        if (_consensus[crsId] == 0) {
            require(!_done[crsId], CrsAborted(crsId));
            revert CrsNotGenerated(crsId);
        }
        return (_urls(_contextOf(crsId), crsId), _crsDigests[crsId]);
    }

    function getKeyMaterials(uint256 keyId) external view returns (string[] memory, KeyDigest[] memory) {
        _requireGenerated(keyId);
        uint256 request = _materialRequest(keyId);
        return (_urls(_contextOf(request), request), _keyDigests[keyId]);
    }

    function getKeyParamsType(uint256 keyId) external view returns (ParamsType) {
        _requireGenerated(keyId);
        return _params[keyId];
    }

    /// Asks for the key once its preparation is done.
    function _askForKey(uint256 prepId, uint256 keyId) internal virtual;

    /// The request whose replies gave a key its newest material.
    function _materialRequest(uint256 keyId) internal view virtual returns (uint256) {
        return keyId;
    }

    function _requireGenerated(uint256 keyId) internal view virtual {
        if (_consensus[keyId] != 0) return;
        require(!_done[keyId], KeyAborted(keyId));
        revert KeyNotGenerated(keyId);
    }

    /// Takes both ids of a key, and names the context and epoch of now with them.
    function _beginKey(ParamsType params) internal returns (uint256 prepId, uint256 keyId) {
        (prepId, keyId) = (++_prepCounter, ++_keyCounter);
        (_pair[prepId], _pair[keyId]) = (keyId, prepId);
        _params[keyId] = params;
        _extraData[prepId] = _extraData[keyId] = _current();
    }

    function _requireNoKeyOpen() internal view {
        require(_keyCounter == KEY_TAG || _done[_keyCounter], KeygenOngoing(_keyCounter));
    }

    /// Checks a reply for a key and counts it; true, with the context, for the one that completes it.
    function _takeKey(uint256 keyId, KeyDigest[] calldata digests, bytes calldata signature)
        internal
        returns (bool complete, uint256 context)
    {
        context = _requireMember(keyId);
        uint256 prepId = _pair[keyId];
        require(_done[prepId], KeyManagementRequestPending());
        bytes32 digest = _digest(GenerationHashes.keygen(prepId, keyId, digests, _extraData[keyId]));
        address signer = _signer(context, digest, signature);
        require(!_answered[keyId][signer], KmsAlreadySignedForKeygen(keyId, signer));
        emit KeygenResponse(keyId, digests, signature, msg.sender);
        complete = _take(context, keyId, signer, digest);
    }

    function _requireKeyReply(uint256 keyId, KeyDigest[] calldata digests) internal view {
        require(keyId > KEY_TAG && keyId <= _keyCounter, KeygenNotRequested(keyId));
        require(digests.length != 0, EmptyKeyDigests(keyId));
    }

    function _completeKey(uint256 keyId, KeyDigest[] calldata digests) internal {
        for (uint256 i = 0; i < digests.length; ++i) _keyDigests[keyId].push(digests[i]);
        _completedKeys.push(keyId);
        _activeKey = keyId;
    }

    function _current() private view returns (bytes memory) {
        (uint256 context, uint256 epoch) = CONFIG.getCurrentKmsContextAndEpoch();
        return GenerationHashes.namedPair(context, epoch);
    }

    function _contextOf(uint256 id) private view returns (uint256 context) {
        bytes memory data = _extraData[id];
        assembly {
            context := mload(add(data, 33)) // behind the length and the version
        }
    }

    function _requireMember(uint256 id) private view returns (uint256 context) {
        context = _contextOf(id);
        require(CONFIG.isValidKmsContext(context), InvalidKmsContext(context));
        require(CONFIG.isKmsTxSenderForContext(context, msg.sender), NotKmsTxSender(msg.sender));
    }

    function _signer(uint256 context, bytes32 digest, bytes calldata signature) private view returns (address signer) {
        signer = Signatures.recover(digest, signature);
        require(CONFIG.isKmsSignerForContext(context, signer), NotKmsSigner(signer));
        address own = CONFIG.getKmsNodeForContext(context, msg.sender).signerAddress;
        require(own == signer, KmsSignerDoesNotMatchTxSender(signer, msg.sender));
    }

    /// Counts an answer; true for the one that completes the request.
    function _take(uint256 context, uint256 id, address signer, bytes32 digest) private returns (bool) {
        _answered[id][signer] = true;
        _senders[id][digest].push(msg.sender);
        if (_done[id] || _senders[id][digest].length < CONFIG.getKmsGenThresholdForContext(context)) return false;
        _done[id] = true;
        _consensus[id] = digest;
        return true;
    }

    function _urls(uint256 context, uint256 id) internal view returns (string[] memory urls) {
        address[] storage senders = _senders[id][_consensus[id]];
        urls = new string[](senders.length);
        for (uint256 i = 0; i < senders.length; ++i) {
            urls[i] = CONFIG.getKmsNodeForContext(context, senders[i]).storageUrl;
        }
    }

    function _digest(bytes32 structHash) private view returns (bytes32) {
        return Signatures.digest("KMSGeneration", block.chainid, address(this), structHash);
    }
}
