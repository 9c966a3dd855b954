// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Committees} from "./Committees.sol";
import {Owned} from "./Owned.sol";
import {Coprocessor, KmsNode} from "./Structs.sol";

/// The registry of coprocessors, host chains and KMS contexts on the Gateway. Decides no request.
contract GatewayConfig is Committees, Owned {
    struct Thresholds {
        uint256 mpc;
        uint256 publicDecryption;
        uint256 userDecryption;
        uint256 kmsGen;
    }

    event UpdateCoprocessors(Coprocessor[] newCoprocessors, uint256 newCoprocessorThreshold);
    event UpdateKmsContext(
        uint256 indexed newContextId,
        KmsNode[] newKmsNodes,
        uint256 newMpcThreshold,
        uint256 newPublicDecryptionThreshold,
        uint256 newUserDecryptionThreshold,
        uint256 newKmsGenThreshold
    );
    event DestroyKmsContext(uint256 indexed kmsContextId);

    Coprocessor[] private _coprocessors;
    uint256 private _coprocessorThreshold;
    uint256 private _currentContext;
    mapping(uint256 chainId => bool) private _hostChains;
    mapping(uint256 contextId => bool) private _destroyed;
    mapping(uint256 contextId => Thresholds) private _thresholds;

    constructor(address owner) Owned(owner) {}

    function setCoprocessors(Coprocessor[] calldata coprocessors, uint256 threshold) external onlyOwner {
        delete _coprocessors;
        for (uint256 i = 0; i < coprocessors.length; ++i) _coprocessors.push(coprocessors[i]);
        _coprocessorThreshold = threshold;
        emit UpdateCoprocessors(coprocessors, threshold);
    }

    function setHostChain(uint256 chainId, bool registered) external onlyOwner {
        _hostChains[chainId] = registered;
    }

    /// Register a context and make it the current one.
    function setContext(uint256 contextId, KmsNode[] calldata nodes, Thresholds calldata limits) external onlyOwner {
        _setNodes(contextId, nodes);
        _thresholds[contextId] = limits;
        _destroyed[contextId] = false;
        _currentContext = contextId;
        emit UpdateKmsContext(
            contextId, nodes, limits.mpc, limits.publicDecryption, limits.userDecryption, limits.kmsGen
        );
    }

    function destroyContext(uint256 contextId) external onlyOwner {
        _destroyed[contextId] = true;
        emit DestroyKmsContext(contextId);
    }

    function getCoprocessorSigners() external view returns (address[] memory signers) {
        signers = new address[](_coprocessors.length);
        for (uint256 i = 0; i < signers.length; ++i) signers[i] = _coprocessors[i].signerAddress;
    }

    function getCoprocessorTxSenders() external view returns (address[] memory senders) {
        senders = new address[](_coprocessors.length);
        for (uint256 i = 0; i < senders.length; ++i) senders[i] = _coprocessors[i].txSenderAddress;
    }

    function getCoprocessorMajorityThreshold() external view returns (uint256) {
        return _coprocessorThreshold;
    }

    function getCoprocessor(address txSender) external view returns (Coprocessor memory found) {
        for (uint256 i = 0; i < _coprocessors.length; ++i) {
            if (_coprocessors[i].txSenderAddress == txSender) return _coprocessors[i];
        }
    }

    function getCurrentKmsContextId() external view returns (uint256) {
        return _currentContext;
    }

    function isValidKmsContext(uint256 contextId) public view returns (bool) {
        return _exists(contextId) && !_destroyed[contextId];
    }

    function getPublicDecryptionThresholdForContext(uint256 contextId) external view returns (uint256) {
        _requireReadable(contextId);
        return _thresholds[contextId].publicDecryption;
    }

    function getUserDecryptionThresholdForContext(uint256 contextId) external view returns (uint256) {
        _requireReadable(contextId);
        return _thresholds[contextId].userDecryption;
    }

    function isHostChainRegistered(uint256 chainId) external view returns (bool) {
        return _hostChains[chainId];
    }

    function getVersion() external pure returns (string memory) {
        return "GatewayConfig v0.7.0";
    }

    /// Unknown and destroyed contexts alike.
    function _requireReadable(uint256 contextId) internal view override {
        require(isValidKmsContext(contextId), InvalidKmsContext(contextId));
    }
}
