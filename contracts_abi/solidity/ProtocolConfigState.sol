// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {KmsThresholds} from "./Structs.sol";

/// The storage of ProtocolConfig, slot by slot as the real contract has it where somebody may look.
abstract contract ProtocolConfigState {
    enum ContextState {
        None,
        Pending,
        Created,
        Active
    }
    enum EpochState {
        None,
        Pending,
        Active
    }
    struct Anchor {
        uint256 blockNumber;
        bytes32 infoHash;
    }

    uint256 internal _newestContext; // +0
    mapping(uint256 contextId => Anchor) internal _anchors;
    uint256[8] private __others;
    mapping(uint256 contextId => bool) internal _destroyed; // +10
    uint256 internal _activeContext; // +11
    uint256 internal _newestEpoch; // +12
    uint256 internal _activeEpoch; // +13
    mapping(uint256 contextId => ContextState) internal _contextStates; // +14
    mapping(uint256 epochId => EpochState) internal _epochStates; // +15
    mapping(uint256 epochId => uint256) internal _epochContexts; // +16
    mapping(uint256 contextId => mapping(address sender => bool)) internal _contextConfirmed; // +17
    mapping(uint256 epochId => mapping(address signer => bool)) internal _epochConfirmed; // +18
    mapping(uint256 contextId => KmsThresholds) internal _thresholds;
    mapping(uint256 epochId => mapping(bytes32 dataHash => uint256)) internal _agreeing;
}
