// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Committees} from "./Committees.sol";
import {GenerationHashes} from "./GenerationHashes.sol";
import {ProtocolConfigState} from "./ProtocolConfigState.sol";
import {Signatures} from "./Signatures.sol";
import {EpochCrsResult, EpochKeyResult, KmsNode, KmsNodeParams, KmsThresholds, PcrValues} from "./Structs.sol";

/// New contexts and epochs, and their confirmations. A context needs all its nodes and n - t of the active one; an epoch
/// needs all nodes of its context with the same data in the same order. One ceremony is open at a time.
abstract contract Ceremonies is ProtocolConfigState, Committees {
    event NewKmsContext(
        uint256 indexed contextId,
        uint256 indexed previousContextId,
        KmsNodeParams[] kmsNodeParams,
        KmsThresholds thresholds,
        string softwareVersion,
        PcrValues[] pcrValues
    );
    event NewKmsEpoch(
        uint256 indexed kmsContextId,
        uint256 indexed epochId,
        uint256 previousContextId,
        uint256 previousEpochId,
        uint256 materialBlockNumber
    );
    event KmsContextCreationConfirmation(
        uint256 indexed kmsContextId, address indexed txSender, bool isPreviousTxSender, bool isNewTxSender
    );
    event EpochActivationConfirmation(uint256 indexed epochId, address indexed signer, bytes32 dataHash);
    event ActivateEpoch(
        uint256 indexed kmsContextId,
        uint256 indexed epochId,
        EpochKeyResult[] keys,
        EpochCrsResult[] crsList,
        string[] kmsNodeStorageUrls
    );

    error KmsLifecycleOperationInFlight(uint256 kmsContextId, uint256 epochId);
    error KmsContextNotPending(uint256 kmsContextId);
    error KmsContextNotCreated(uint256 kmsContextId);
    error KmsContextCreationUnauthorized(address caller, uint256 kmsContextId);
    error KmsContextCreationAlreadyConfirmed(address txSender, uint256 kmsContextId);
    error InvalidKmsEpoch(uint256 epochId);
    error EpochActivationUnauthorized(address caller, uint256 epochId);
    error EpochActivationSignerDoesNotMatchTxSender(address signer, address txSender);
    error EpochActivationAlreadyConfirmed(address signer, uint256 epochId);
    error EmptyEpochActivationAttestation(uint256 epochId);

    function confirmKmsContextCreation(uint256 contextId) external {
        require(_contextStates[contextId] == ContextState.Pending, KmsContextNotPending(contextId));
        bool outgoing = _node(_activeContext, msg.sender).signerAddress != address(0);
        bool incoming = _node(contextId, msg.sender).signerAddress != address(0);
        require(outgoing || incoming, KmsContextCreationUnauthorized(msg.sender, contextId));
        require(
            !_contextConfirmed[contextId][msg.sender], KmsContextCreationAlreadyConfirmed(msg.sender, contextId)
        );
        _contextConfirmed[contextId][msg.sender] = true;
        emit KmsContextCreationConfirmation(contextId, msg.sender, outgoing, incoming);
        if (_isQuorum(contextId)) {
            _contextStates[contextId] = ContextState.Created;
            _beginEpoch(contextId);
        }
    }

    function confirmEpochActivation(
        uint256 epochId,
        EpochKeyResult[] calldata keys,
        EpochCrsResult[] calldata crsList
    ) external {
        (uint256 contextId, address signer) = _epochMember(epochId);
        require(keys.length != 0 && crsList.length != 0, EmptyEpochActivationAttestation(epochId));
        bytes32 dataHash = _checkAttested(contextId, epochId, signer, keys, crsList);
        require(!_epochConfirmed[epochId][signer], EpochActivationAlreadyConfirmed(signer, epochId));
        _epochConfirmed[epochId][signer] = true;
        emit EpochActivationConfirmation(epochId, signer, dataHash);
        if (++_agreeing[epochId][dataHash] == _nodesOf(contextId).length) {
            _epochStates[epochId] = EpochState.Active;
            _contextStates[contextId] = ContextState.Active;
            (_activeEpoch, _activeContext) = (epochId, contextId);
            emit ActivateEpoch(contextId, epochId, keys, crsList, _storageUrls(contextId));
        }
    }

    /// Announces a context that must be confirmed.
    function _beginContext(
        KmsNodeParams[] calldata nodes,
        KmsThresholds calldata thresholds,
        string calldata softwareVersion,
        PcrValues[] calldata pcrValues
    ) internal {
        _requireIdle();
        uint256 contextId = ++_newestContext;
        _contextStates[contextId] = ContextState.Pending;
        _thresholds[contextId] = thresholds;
        for (uint256 i = 0; i < nodes.length; ++i) {
            KmsNodeParams calldata node = nodes[i];
            _addNode(contextId, KmsNode(node.txSenderAddress, node.signerAddress, node.ipAddress, node.storageUrl));
        }
        _announce(contextId, _activeContext, nodes, thresholds, softwareVersion, pcrValues);
    }

    function _announce(
        uint256 contextId,
        uint256 previous,
        KmsNodeParams[] calldata nodes,
        KmsThresholds calldata thresholds,
        string calldata softwareVersion,
        PcrValues[] calldata pcrValues
    ) internal {
        bytes32 infoHash = keccak256(abi.encode(nodes, thresholds, softwareVersion, pcrValues));
        _anchors[contextId] = Anchor(block.number, infoHash);
        emit NewKmsContext(contextId, previous, nodes, thresholds, softwareVersion, pcrValues);
    }

    function _beginEpoch(uint256 contextId) internal {
        uint256 epochId = ++_newestEpoch;
        _epochStates[epochId] = EpochState.Pending;
        _epochContexts[epochId] = contextId;
        emit NewKmsEpoch(contextId, epochId, _activeContext, _activeEpoch, block.number - 1);
    }

    function _requireIdle() internal view {
        ContextState context = _contextStates[_newestContext];
        bool open = context == ContextState.Pending || context == ContextState.Created
            || _epochStates[_newestEpoch] == EpochState.Pending;
        require(!open, KmsLifecycleOperationInFlight(_newestContext, _newestEpoch));
    }

    function _node(uint256 contextId, address sender) internal view returns (KmsNode memory node) {
        KmsNode[] storage nodes = _nodesOf(contextId);
        for (uint256 i = 0; i < nodes.length; ++i) {
            if (nodes[i].txSenderAddress == sender) return nodes[i];
        }
    }

    function _isQuorum(uint256 contextId) private view returns (bool) {
        uint256 all = _nodesOf(contextId).length;
        uint256 old = _nodesOf(_activeContext).length;
        uint256 tolerated = _thresholds[_activeContext].mpc;
        uint256 needed = old == 0 ? 0 : (old > tolerated ? old - tolerated : 1);
        return _confirmed(contextId, contextId) == all && _confirmed(contextId, _activeContext) >= needed;
    }

    /// How many nodes of a committee have confirmed a context.
    function _confirmed(uint256 contextId, uint256 committee) private view returns (uint256 count) {
        KmsNode[] storage nodes = _nodesOf(committee);
        for (uint256 i = 0; i < nodes.length; ++i) {
            if (_contextConfirmed[contextId][nodes[i].txSenderAddress]) ++count;
        }
    }

    function _epochMember(uint256 epochId) private view returns (uint256 contextId, address signer) {
        require(_epochStates[epochId] == EpochState.Pending, InvalidKmsEpoch(epochId));
        contextId = _epochContexts[epochId];
        ContextState state = _contextStates[contextId];
        require(state != ContextState.None, InvalidKmsContext(contextId));
        require(state != ContextState.Pending, KmsContextNotCreated(contextId));
        signer = _node(contextId, msg.sender).signerAddress;
        require(signer != address(0), EpochActivationUnauthorized(msg.sender, epochId));
    }

    /// Checks every signature, and returns the hash of what is attested, in its order and without signatures.
    function _checkAttested(
        uint256 contextId,
        uint256 epochId,
        address signer,
        EpochKeyResult[] calldata keys,
        EpochCrsResult[] calldata crsList
    ) private view returns (bytes32 dataHash) {
        bytes memory extraData = GenerationHashes.namedPair(contextId, epochId);
        for (uint256 i = 0; i < keys.length; ++i) {
            EpochKeyResult calldata key = keys[i];
            bytes32 hash = GenerationHashes.keygen(key.prepKeygenId, key.keyId, key.keyDigests, extraData);
            _checkSigner(signer, hash, key.signature);
            dataHash = keccak256(abi.encode(dataHash, hash));
        }
        for (uint256 i = 0; i < crsList.length; ++i) {
            EpochCrsResult calldata crs = crsList[i];
            bytes32 hash = GenerationHashes.crsgen(crs.crsId, crs.maxBitLength, crs.crsDigest, extraData);
            _checkSigner(signer, hash, crs.signature);
            dataHash = keccak256(abi.encode(dataHash, hash));
        }
    }

    function _checkSigner(address expected, bytes32 structHash, bytes calldata signature) private view {
        bytes32 digest = Signatures.digest("ProtocolConfig", block.chainid, address(this), structHash);
        address signer = Signatures.recover(digest, signature);
        require(signer == expected, EpochActivationSignerDoesNotMatchTxSender(signer, msg.sender));
    }

    function _storageUrls(uint256 contextId) private view returns (string[] memory urls) {
        KmsNode[] storage nodes = _nodesOf(contextId);
        urls = new string[](nodes.length);
        for (uint256 i = 0; i < nodes.length; ++i) urls[i] = nodes[i].storageUrl;
    }
}
