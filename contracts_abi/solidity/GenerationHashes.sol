// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {KeyDigest} from "./Structs.sol";

/// EIP-712 hashes of what a Core signs about keys and CRS.
library GenerationHashes {
    bytes32 private constant PREP_TYPE = keccak256("PrepKeygenVerification(uint256 prepKeygenId,bytes extraData)");
    bytes32 private constant KEY_DIGEST_TYPE = keccak256("KeyDigest(uint8 keyType,bytes digest)");
    bytes32 private constant KEYGEN_TYPE = keccak256(
        "KeygenVerification(uint256 prepKeygenId,uint256 keyId,KeyDigest[] keyDigests,bytes extraData)KeyDigest(uint8 keyType,bytes digest)"
    );
    bytes32 private constant CRS_TYPE =
        keccak256("CrsgenVerification(uint256 crsId,uint256 maxBitLength,bytes crsDigest,bytes extraData)");

    function prepKeygen(uint256 prepKeygenId, bytes memory extraData) internal pure returns (bytes32) {
        return keccak256(abi.encode(PREP_TYPE, prepKeygenId, keccak256(extraData)));
    }

    function keygen(uint256 prepKeygenId, uint256 keyId, KeyDigest[] calldata digests, bytes memory extraData)
        internal
        pure
        returns (bytes32)
    {
        bytes32[] memory parts = new bytes32[](digests.length);
        for (uint256 i = 0; i < digests.length; ++i) {
            parts[i] = keccak256(abi.encode(KEY_DIGEST_TYPE, digests[i].keyType, keccak256(digests[i].digest)));
        }
        bytes32 listed = keccak256(abi.encodePacked(parts));
        return keccak256(abi.encode(KEYGEN_TYPE, prepKeygenId, keyId, listed, keccak256(extraData)));
    }

    function crsgen(uint256 crsId, uint256 maxBitLength, bytes calldata digest, bytes memory extraData)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(CRS_TYPE, crsId, maxBitLength, keccak256(digest), keccak256(extraData)));
    }

    /// The extraData that names a context and an epoch.
    function namedPair(uint256 contextId, uint256 epochId) internal pure returns (bytes memory) {
        return abi.encodePacked(uint8(2), contextId, epochId);
    }
}
