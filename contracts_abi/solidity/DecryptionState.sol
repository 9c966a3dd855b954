// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {SnsCiphertextMaterial} from "./Structs.sol";

/// The storage of Decryption, slot by slot as the real contract has it where somebody may look.
abstract contract DecryptionState {
    mapping(uint256 id => bool) internal _done; // +0
    mapping(uint256 id => mapping(address signer => bool)) internal _answered; // +1
    mapping(uint256 id => bytes) internal _publicKeys;
    mapping(uint256 id => bytes32) internal _consensus;
    mapping(uint256 id => mapping(bytes32 digest => bytes[])) internal _signatures;
    mapping(uint256 id => mapping(bytes32 digest => address[])) internal _senders;
    uint256 internal _publicCounter; // +6
    mapping(uint256 id => bytes32[]) internal _handles;
    uint256 internal _userCounter; // +8
    mapping(uint256 id => uint256) internal _pinned; // +9
    mapping(bytes32 handle => SnsCiphertextMaterial) internal _materials;
    bool internal _paused;
}
