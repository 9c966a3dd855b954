// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {KeyDigest, ParamsType} from "./Structs.sol";

/// The storage of KMSGeneration, slot by slot as the real contract has it where somebody may look.
abstract contract KMSGenerationState {
    mapping(uint256 id => mapping(address signer => bool)) internal _answered; // +0
    mapping(uint256 id => bool) internal _done; // +1
    mapping(uint256 id => mapping(bytes32 digest => address[])) internal _senders; // +2
    mapping(uint256 id => bytes32) internal _consensus; // +3
    uint256 internal _prepCounter; // +4
    uint256 internal _keyCounter; // +5
    mapping(uint256 id => uint256) internal _pair; // +6
    mapping(uint256 keyId => KeyDigest[]) internal _keyDigests;
    uint256 internal _activeKey;
    uint256 internal _crsCounter; // +9
    mapping(uint256 crsId => uint256) internal _bits;
    mapping(uint256 crsId => bytes) internal _crsDigests;
    uint256 internal _activeCrs;
    mapping(uint256 keyId => ParamsType) internal _params;
    mapping(uint256 id => bytes) internal _extraData; // +14
    uint256[] internal _completedKeys;
    uint256[] internal _completedCrs;
    mapping(uint256 requestId => uint256) internal _existingByRequest; // +17
    mapping(uint256 existingKeyId => uint256) internal _requestByExisting; // +18
}
