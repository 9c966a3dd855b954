// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// What a handle says about its ciphertext, and how many bits of a request it takes.
library Handles {
    error InvalidFHEType(uint8 fheTypeUint8);
    error UnsupportedFHEType(uint8 fheType);
    error MaxDecryptionRequestBitSizeExceeded(uint256 maxBitSize, uint256 totalBitSize);

    uint256 private constant MAX_BITS = 2048;
    uint8 private constant LAST_TYPE = 83;

    /// Bytes 22 to 29: the host chain.
    function chainId(bytes32 handle) internal pure returns (uint256) {
        return uint64(uint256(handle) >> 16);
    }

    function checkBits(bytes32[] memory handles) internal pure {
        uint256 total = 0;
        for (uint256 i = 0; i < handles.length; ++i) total += bits(handles[i]);
        require(total <= MAX_BITS, MaxDecryptionRequestBitSizeExceeded(MAX_BITS, total));
    }

    function bits(bytes32 handle) internal pure returns (uint256) {
        uint8 fheType = uint8(handle[30]);
        require(fheType <= LAST_TYPE, InvalidFHEType(fheType));
        if (fheType == 0) return 2;
        if (fheType >= 2 && fheType <= 6) return 1 << (fheType + 1);
        if (fheType == 7) return 160;
        if (fheType == 8) return 256;
        revert UnsupportedFHEType(fheType);
    }
}
