// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {DecryptionReplies} from "./DecryptionReplies.sol";
import {GatewayConfig} from "./GatewayConfig.sol";
import {Handles} from "./Handles.sol";
import {Owned} from "./Owned.sol";
import {UserRules} from "./UserRules.sol";
import "./Structs.sol";

/// Takes decryption requests and replies on the Gateway, with the rules of fhevm v0.14.
/// Its place is the ERC-7201 slot of "fhevm_gateway.storage.Decryption".
contract Decryption layout at 0x68113e68af494c6efd0210fc4bf9ba748d1ffadaa4718217fdf63548c4aee700
    is DecryptionReplies, Owned
{
    event PublicDecryptionRequest(
        uint256 indexed decryptionId, SnsCiphertextMaterial[] snsCtMaterials, bytes extraData
    );
    event UserDecryptionRequest(
        uint256 indexed decryptionId,
        SnsCiphertextMaterial[] snsCtMaterials,
        address userAddress,
        bytes publicKey,
        bytes extraData
    );
    event UserDecryptionRequest(
        uint256 indexed decryptionId,
        SnsCiphertextMaterial[] snsCtMaterials,
        HandleEntry[] handles,
        UserDecryptionRequestPayload payload
    );

    error EnforcedPause();
    error EmptyCtHandles();
    error HostChainNotRegistered(uint256 chainId);
    error DifferentKeyIdsNotAllowed(SnsCiphertextMaterial first, SnsCiphertextMaterial invalid);
    error CiphertextMaterialNotFound(bytes32 ctHandle);

    constructor(address owner, GatewayConfig config) DecryptionReplies(config) Owned(owner) {
        _publicCounter = PUBLIC_TAG;
        _userCounter = USER_TAG;
    }

    modifier whenOpen() {
        require(!_paused, EnforcedPause());
        _;
    }

    /// Let the coprocessors have committed ciphertexts.
    function commit(SnsCiphertextMaterial[] calldata materials) external onlyOwner {
        for (uint256 i = 0; i < materials.length; ++i) _materials[materials[i].ctHandle] = materials[i];
    }

    function setPaused(bool paused) external onlyOwner {
        _paused = paused;
    }

    /// Pin another context; zero makes the request one from before pinning.
    function setPinned(uint256 id, uint256 contextId) external onlyOwner {
        _pinned[id] = contextId;
    }

    function publicDecryptionRequest(bytes32[] calldata handles, bytes calldata extraData) external whenOpen {
        require(handles.length != 0, EmptyCtHandles());
        SnsCiphertextMaterial[] memory materials = _gather(handles);
        _publicCounter = _admit(_publicCounter, handles, extraData);
        emit PublicDecryptionRequest(_publicCounter, materials, extraData);
    }

    /// Legacy: a user asks for own values.
    function userDecryptionRequest(
        CtHandleContractPair[] calldata pairs,
        RequestValidity calldata validity,
        ContractsInfo calldata contracts,
        address user,
        bytes calldata publicKey,
        bytes calldata signature,
        bytes calldata extraData
    ) external whenOpen {
        UserRules.checkLegacy(pairs, validity, contracts);
        UserRules.checkDirectSignature(user, validity, contracts, publicKey, extraData, signature);
        _emitLegacy(_handlesOf(pairs), user, publicKey, extraData);
    }

    /// Legacy: a delegate asks for the delegator's values.
    function delegatedUserDecryptionRequest(
        CtHandleContractPair[] calldata pairs,
        RequestValidity calldata validity,
        DelegationAccounts calldata accounts,
        ContractsInfo calldata contracts,
        bytes calldata publicKey,
        bytes calldata signature,
        bytes calldata extraData
    ) external whenOpen {
        UserRules.checkLegacy(pairs, validity, contracts);
        UserRules.checkDelegatedSignature(accounts, validity, contracts, publicKey, extraData, signature);
        _emitLegacy(_handlesOf(pairs), accounts.delegateAddress, publicKey, extraData);
    }

    /// Unified: signature and ownership are the connector's to check.
    function userDecryptionRequest(
        HandleEntry[] calldata entries,
        address user,
        bytes calldata publicKey,
        address[] calldata allowedContracts,
        RequestValiditySeconds calldata validity,
        bytes calldata signature,
        bytes calldata extraData
    ) external whenOpen {
        UserRules.checkUnified(entries, allowedContracts, validity);
        bytes32[] memory handles = new bytes32[](entries.length);
        for (uint256 i = 0; i < entries.length; ++i) handles[i] = entries[i].handle;
        SnsCiphertextMaterial[] memory materials = _gather(handles);
        uint256 id = _admitUser(handles, publicKey, extraData);
        UserDecryptionRequestPayload memory payload =
            UserDecryptionRequestPayload(user, publicKey, allowedContracts, validity, extraData, signature);
        emit UserDecryptionRequest(id, materials, entries, payload);
    }

    function eip712Domain()
        external
        view
        returns (bytes1, string memory, string memory, uint256, address, bytes32, uint256[] memory)
    {
        return (0x0f, "Decryption", "1", block.chainid, address(this), bytes32(0), new uint256[](0));
    }

    function getVersion() external pure returns (string memory) {
        return "Decryption v0.6.0";
    }

    function _emitLegacy(
        bytes32[] memory handles,
        address user,
        bytes calldata publicKey,
        bytes calldata extraData
    ) private {
        SnsCiphertextMaterial[] memory materials = _gather(handles);
        uint256 id = _admitUser(handles, publicKey, extraData);
        emit UserDecryptionRequest(id, materials, user, publicKey, extraData);
    }

    function _handlesOf(CtHandleContractPair[] calldata pairs) private pure returns (bytes32[] memory handles) {
        handles = new bytes32[](pairs.length);
        for (uint256 i = 0; i < pairs.length; ++i) handles[i] = pairs[i].ctHandle;
    }

    /// The committed ciphertexts of handles that may be asked for together.
    function _gather(bytes32[] memory handles) private view returns (SnsCiphertextMaterial[] memory materials) {
        Handles.checkBits(handles);
        materials = new SnsCiphertextMaterial[](handles.length);
        for (uint256 i = 0; i < handles.length; ++i) {
            uint256 chainId = Handles.chainId(handles[i]);
            require(CONFIG.isHostChainRegistered(chainId), HostChainNotRegistered(chainId));
            materials[i] = _materials[handles[i]];
            require(materials[i].ctHandle == handles[i], CiphertextMaterialNotFound(handles[i]));
            require(
                materials[i].keyId == materials[0].keyId, DifferentKeyIdsNotAllowed(materials[0], materials[i])
            );
        }
    }

    function _admitUser(bytes32[] memory handles, bytes calldata publicKey, bytes calldata extraData)
        private
        returns (uint256 id)
    {
        id = _admit(_userCounter, handles, extraData);
        _userCounter = id;
        _publicKeys[id] = publicKey;
    }

    /// Give a request its id, pin its context, keep its handles.
    function _admit(uint256 newest, bytes32[] memory handles, bytes calldata extraData)
        private
        returns (uint256 id)
    {
        uint256 context = _context(extraData);
        CONFIG.getUserDecryptionThresholdForContext(context); // raises InvalidKmsContext
        id = newest + 1;
        _pinned[id] = context;
        _handles[id] = handles;
    }
}
