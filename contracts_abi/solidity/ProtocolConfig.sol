// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Ceremonies} from "./Ceremonies.sol";
import {Owned} from "./Owned.sol";
import {KmsNode, KmsNodeParams, KmsThresholds, PcrValues} from "./Structs.sol";

/// Contexts and epochs with their states on Ethereum. The owner begins ceremonies, or sets their results at once.
/// Its place is the ERC-7201 slot of "fhevm.storage.ProtocolConfig".
contract ProtocolConfig layout at 0x80f3585af86806c5774303b06c1ee640aa83b6ef3e45df49bb26c8524500c200
    is Ceremonies, Owned
{
    event KmsContextDestroyed(uint256 indexed kmsContextId);
    event KmsEpochDestroyed(uint256 indexed epochId);

    constructor(address owner) Owned(owner) {}

    function setContext(uint256 contextId, KmsNode[] calldata nodes, ContextState state) external onlyOwner {
        _setNodes(contextId, nodes);
        _contextStates[contextId] = state;
        _newestContext = _larger(contextId, _newestContext);
        if (state == ContextState.Active) _activeContext = _larger(contextId, _activeContext);
    }

    function setEpoch(uint256 contextId, uint256 epochId, EpochState state) external onlyOwner {
        _epochStates[epochId] = state;
        _epochContexts[epochId] = contextId;
        _newestEpoch = _larger(epochId, _newestEpoch);
        if (state == EpochState.Active) _activeEpoch = _larger(epochId, _activeEpoch);
    }

    function setThresholds(uint256 contextId, KmsThresholds calldata thresholds) external onlyOwner {
        _thresholds[contextId] = thresholds;
    }

    function beginContext(
        KmsNodeParams[] calldata nodes,
        KmsThresholds calldata thresholds,
        string calldata softwareVersion,
        PcrValues[] calldata pcrValues
    ) external onlyOwner {
        _beginContext(nodes, thresholds, softwareVersion, pcrValues);
    }

    /// Announces a context that was set at once, as the first one of a deployment is.
    function announce(
        uint256 contextId,
        uint256 previous,
        KmsNodeParams[] calldata nodes,
        KmsThresholds calldata thresholds,
        string calldata softwareVersion,
        PcrValues[] calldata pcrValues
    ) external onlyOwner {
        _announce(contextId, previous, nodes, thresholds, softwareVersion, pcrValues);
    }

    function beginEpoch() external onlyOwner {
        _requireIdle();
        _beginEpoch(_activeContext);
    }

    function getKmsGenThresholdForContext(uint256 contextId) external view returns (uint256) {
        return _thresholds[contextId].kmsGen;
    }

    function setAnchor(uint256 contextId, uint256 blockNumber, bytes32 infoHash) external onlyOwner {
        _anchors[contextId] = Anchor(blockNumber, infoHash);
    }

    function destroyContext(uint256 contextId) external onlyOwner {
        _contextStates[contextId] = ContextState.None;
        _destroyed[contextId] = true;
        emit KmsContextDestroyed(contextId);
    }

    function destroyEpoch(uint256 epochId) external onlyOwner {
        _epochStates[epochId] = EpochState.None;
        emit KmsEpochDestroyed(epochId);
    }

    function getCurrentKmsContextAndEpoch() external view returns (uint256, uint256) {
        return (_activeContext, _activeEpoch);
    }

    function getCurrentKmsContextIdCounter() external view returns (uint256) {
        return _newestContext;
    }

    function isValidKmsContext(uint256 contextId) external view returns (bool) {
        return _contextStates[contextId] == ContextState.Active;
    }

    function isLiveKmsContext(uint256 contextId) external view returns (bool) {
        return _contextStates[contextId] != ContextState.None;
    }

    function isValidEpochForContext(uint256 contextId, uint256 epochId) external view returns (bool) {
        return _epochStates[epochId] == EpochState.Active && _epochContexts[epochId] == contextId;
    }

    function getKmsContextAnchor(uint256 contextId) external view returns (uint256, bytes32) {
        Anchor storage anchor = _anchors[contextId];
        require(anchor.blockNumber != 0, InvalidKmsContext(contextId));
        return (anchor.blockNumber, anchor.infoHash);
    }

    function getVersion() external pure returns (string memory) {
        return "ProtocolConfig v0.2.0";
    }

    /// Pending and destroyed contexts stay readable.
    function _requireReadable(uint256 contextId) internal view override {
        require(_exists(contextId), InvalidKmsContext(contextId));
    }

    function _larger(uint256 one, uint256 other) private pure returns (uint256) {
        return one > other ? one : other;
    }
}
