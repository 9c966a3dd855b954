// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// The context that extraData names; the epoch in it is nobody's business on the Gateway.
library ExtraData {
    error UnsupportedExtraDataVersion(uint8 version);
    error InvalidExtraDataLength(uint256 length, uint256 minimumLength);
    error InvalidNullContextId();

    uint256 private constant MINIMUM = 33;

    /// Zero where the data names none: empty, or version 0.
    function contextId(bytes calldata data) internal pure returns (uint256 context) {
        uint8 version = data.length == 0 ? 0 : uint8(data[0]);
        if (version == 0) return 0;
        require(version <= 2, UnsupportedExtraDataVersion(version));
        require(data.length >= MINIMUM, InvalidExtraDataLength(data.length, MINIMUM));
        context = uint256(bytes32(data[1:MINIMUM]));
        require(context != 0, InvalidNullContextId());
    }
}
