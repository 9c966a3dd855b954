// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {KmsNode} from "./Structs.sol";

/// The nodes of each KMS context, as both registries keep them.
abstract contract Committees {
    error InvalidKmsContext(uint256 kmsContextId);

    mapping(uint256 contextId => KmsNode[]) private _nodes;

    /// Raises InvalidKmsContext where the contract does not answer for a context.
    function _requireReadable(uint256 contextId) internal view virtual;

    function _setNodes(uint256 contextId, KmsNode[] calldata nodes) internal {
        delete _nodes[contextId];
        for (uint256 i = 0; i < nodes.length; ++i) _nodes[contextId].push(nodes[i]);
    }

    function _addNode(uint256 contextId, KmsNode memory node) internal {
        _nodes[contextId].push(node);
    }

    function _nodesOf(uint256 contextId) internal view returns (KmsNode[] storage) {
        return _nodes[contextId];
    }

    function _exists(uint256 contextId) internal view returns (bool) {
        return _nodes[contextId].length != 0;
    }

    function getKmsNodesForContext(uint256 contextId) external view returns (KmsNode[] memory) {
        _requireReadable(contextId);
        return _nodes[contextId];
    }

    /// All zero for a sender that is not in the context.
    function getKmsNodeForContext(uint256 contextId, address txSender) public view returns (KmsNode memory node) {
        _requireReadable(contextId);
        KmsNode[] storage nodes = _nodes[contextId];
        for (uint256 i = 0; i < nodes.length; ++i) {
            if (nodes[i].txSenderAddress == txSender) return nodes[i];
        }
    }

    function isKmsTxSenderForContext(uint256 contextId, address txSender) external view returns (bool) {
        return getKmsNodeForContext(contextId, txSender).txSenderAddress != address(0);
    }

    function isKmsSignerForContext(uint256 contextId, address signer) external view returns (bool) {
        _requireReadable(contextId);
        KmsNode[] storage nodes = _nodes[contextId];
        for (uint256 i = 0; i < nodes.length; ++i) {
            if (nodes[i].signerAddress == signer) return true;
        }
        return false;
    }
}
