// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {DecryptionState} from "./DecryptionState.sol";
import {ExtraData} from "./ExtraData.sol";
import {GatewayConfig} from "./GatewayConfig.sol";
import {Signatures} from "./Signatures.sol";

/// Which replies the Gateway takes. The order of the checks decides which error is seen: id, context of the extraData,
/// pinned context, its committee, signature, signer, sender, and only then "already signed". Replies are taken late and
/// while requests are paused.
abstract contract DecryptionReplies is DecryptionState {
    event PublicDecryptionResponseCall(
        uint256 indexed decryptionId, bytes decryptedResult, bytes signature, address kmsTxSender, bytes extraData
    );
    event PublicDecryptionResponse(
        uint256 indexed decryptionId, bytes decryptedResult, bytes[] signatures, bytes extraData
    );
    event UserDecryptionResponse(
        uint256 indexed decryptionId, uint256 indexShare, bytes userDecryptedShare, bytes signature, bytes extraData
    );
    event UserDecryptionResponseThresholdReached(uint256 indexed decryptionId);

    error DecryptionNotRequested(uint256 decryptionId);
    error DecryptionContextMismatch(uint256 decryptionId, uint256 requestContextId, uint256 responseContextId);
    error NotKmsSigner(address signerAddress);
    error KmsSignerDoesNotMatchTxSender(address signerAddress, address txSenderAddress);
    error KmsNodeAlreadySigned(uint256 decryptionId, address signer);

    bytes32 private constant PUBLIC_TYPE =
        keccak256("PublicDecryptVerification(bytes32[] ctHandles,bytes decryptedResult,bytes extraData)");
    bytes32 private constant USER_TYPE = keccak256(
        "UserDecryptResponseVerification(bytes publicKey,bytes32[] ctHandles,bytes userDecryptedShare,bytes extraData)"
    );
    uint256 internal constant PUBLIC_TAG = 1 << 248;
    uint256 internal constant USER_TAG = 2 << 248;

    GatewayConfig internal immutable CONFIG;

    constructor(GatewayConfig config) {
        CONFIG = config;
    }

    function publicDecryptionResponse(
        uint256 id,
        bytes calldata result,
        bytes calldata signature,
        bytes calldata extraData
    ) external {
        uint256 context = _contextOf(id, PUBLIC_TAG, _publicCounter, extraData);
        bytes32 digest = _digest(
            keccak256(
                abi.encode(PUBLIC_TYPE, _hashOfHandles(id), keccak256(result), keccak256(extraData))
            )
        );
        _takeSignature(id, context, digest, signature);
        _signatures[id][digest].push(signature);
        _senders[id][digest].push(msg.sender);
        emit PublicDecryptionResponseCall(id, result, signature, msg.sender, extraData);
        uint256 threshold = CONFIG.getPublicDecryptionThresholdForContext(context);
        if (!_done[id] && _senders[id][digest].length >= threshold) {
            _done[id] = true;
            _consensus[id] = digest;
            emit PublicDecryptionResponse(id, result, _signatures[id][digest], extraData);
        }
    }

    function userDecryptionResponse(
        uint256 id,
        bytes calldata share,
        bytes calldata signature,
        bytes calldata extraData
    ) external {
        uint256 context = _contextOf(id, USER_TAG, _userCounter, extraData);
        bytes32 digest = _digest(
            keccak256(
                abi.encode(
                    USER_TYPE,
                    keccak256(_publicKeys[id]),
                    _hashOfHandles(id),
                    keccak256(share),
                    keccak256(extraData)
                )
            )
        );
        _takeSignature(id, context, digest, signature);
        address[] storage senders = _senders[id][0]; // shares differ, so they are counted under no digest
        senders.push(msg.sender);
        emit UserDecryptionResponse(id, senders.length - 1, share, signature, extraData);
        if (!_done[id] && senders.length >= CONFIG.getUserDecryptionThresholdForContext(context)) {
            _done[id] = true;
            emit UserDecryptionResponseThresholdReached(id);
        }
    }

    function isDecryptionDone(uint256 id) external view returns (bool) {
        return _done[id];
    }

    function getDecryptionConsensusTxSenders(uint256 id) external view returns (address[] memory) {
        return _senders[id][_consensus[id]];
    }

    /// The context that extraData names, the current one for version 0.
    function _context(bytes calldata extraData) internal view returns (uint256) {
        uint256 named = ExtraData.contextId(extraData);
        return named == 0 ? CONFIG.getCurrentKmsContextId() : named;
    }

    function _contextOf(uint256 id, uint256 tag, uint256 newest, bytes calldata extraData)
        private
        view
        returns (uint256 context)
    {
        require(id > tag && id <= newest, DecryptionNotRequested(id));
        context = _context(extraData);
        uint256 pinned = _pinned[id];
        require(pinned == 0 || pinned == context, DecryptionContextMismatch(id, pinned, context));
    }

    function _takeSignature(uint256 id, uint256 context, bytes32 digest, bytes calldata signature) private {
        CONFIG.getKmsNodeForContext(context, msg.sender); // raises InvalidKmsContext
        address signer = Signatures.recover(digest, signature);
        require(CONFIG.isKmsSignerForContext(context, signer), NotKmsSigner(signer));
        address own = CONFIG.getKmsNodeForContext(context, msg.sender).signerAddress;
        require(own == signer, KmsSignerDoesNotMatchTxSender(signer, msg.sender));
        require(!_answered[id][signer], KmsNodeAlreadySigned(id, signer));
        _answered[id][signer] = true;
    }

    function _hashOfHandles(uint256 id) private view returns (bytes32) {
        return keccak256(abi.encodePacked(_handles[id]));
    }

    function _digest(bytes32 structHash) private view returns (bytes32) {
        return Signatures.digest(block.chainid, address(this), structHash);
    }
}
