// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Owned} from "./Owned.sol";

/// Who may decrypt what on a host chain. Keeps no deny list and no pause.
contract ACL is Owned {
    event Allowed(address indexed caller, address indexed account, bytes32 handle);
    event AllowedForDecryption(address indexed caller, bytes32[] handlesList);
    event DecryptionSignaturesInvalidated(address indexed account, uint256 beforeTimestamp);

    address private constant EVERY_CONTRACT = address(type(uint160).max);

    mapping(bytes32 handle => bool) private _decryptable;
    mapping(bytes32 handle => mapping(address account => bool)) private _allowed;
    mapping(address delegator => mapping(address delegate => mapping(address place => uint64))) private _expiries;
    mapping(address account => uint256) private _invalidBefore;

    constructor(address owner) Owned(owner) {}

    function setDecryptable(bytes32[] calldata handles, bool allowed) external onlyOwner {
        for (uint256 i = 0; i < handles.length; ++i) _decryptable[handles[i]] = allowed;
        if (allowed) emit AllowedForDecryption(msg.sender, handles);
    }

    function setAllowed(bytes32 handle, address account, bool allowed) external onlyOwner {
        _allowed[handle][account] = allowed;
        if (allowed) emit Allowed(msg.sender, account, handle);
    }

    /// Zero revokes.
    function setDelegation(address delegator, address delegate, address place, uint64 expiry) external onlyOwner {
        _expiries[delegator][delegate][place] = expiry;
    }

    function setInvalidBefore(address account, uint256 timestamp) external onlyOwner {
        _invalidBefore[account] = timestamp;
        emit DecryptionSignaturesInvalidated(account, timestamp);
    }

    function isAllowedForDecryption(bytes32 handle) external view returns (bool) {
        return _decryptable[handle];
    }

    function isAllowed(bytes32 handle, address account) public view returns (bool) {
        return _allowed[handle][account];
    }

    function persistAllowed(bytes32 handle, address account) external view returns (bool) {
        return _allowed[handle][account];
    }

    function isHandleDelegatedForUserDecryption(address delegator, address delegate, address place, bytes32 handle)
        external
        view
        returns (bool)
    {
        if (!(isAllowed(handle, delegator) && isAllowed(handle, place))) return false;
        return _isOpen(delegator, delegate, place) || _isOpen(delegator, delegate, EVERY_CONTRACT);
    }

    function getUserDecryptionDelegationExpirationDate(address delegator, address delegate, address place)
        external
        view
        returns (uint64)
    {
        return _expiries[delegator][delegate][place];
    }

    function decryptionSignatureInvalidatedBefore(address account) external view returns (uint256) {
        return _invalidBefore[account];
    }

    function getVersion() external pure returns (string memory) {
        return "ACL v0.5.0";
    }

    function _isOpen(address delegator, address delegate, address place) private view returns (bool) {
        return _expiries[delegator][delegate][place] > block.timestamp;
    }
}
