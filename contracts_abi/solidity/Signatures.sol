// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// EIP-712 digests, and recovery as strict as contracts are: 65 bytes, low s, v 27 or 28.
library Signatures {
    error ECDSAInvalidSignature();
    error ECDSAInvalidSignatureLength(uint256 length);
    error ECDSAInvalidSignatureS(bytes32 s);

    bytes32 private constant DOMAIN_TYPE =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    uint256 private constant HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0;

    /// The digest of a struct under the domain "Decryption", version "1".
    function digest(uint256 chainId, address verifyingContract, bytes32 structHash) internal pure returns (bytes32) {
        return digest("Decryption", chainId, verifyingContract, structHash);
    }

    /// The digest of a struct under a domain of this name, version "1".
    function digest(string memory name, uint256 chainId, address verifyingContract, bytes32 structHash)
        internal
        pure
        returns (bytes32)
    {
        bytes32 separator = keccak256(
            abi.encode(DOMAIN_TYPE, keccak256(bytes(name)), keccak256("1"), chainId, verifyingContract)
        );
        return keccak256(abi.encodePacked(hex"1901", separator, structHash));
    }

    function recover(bytes32 hash, bytes calldata signature) internal pure returns (address signer) {
        require(signature.length == 65, ECDSAInvalidSignatureLength(signature.length));
        bytes32 s = bytes32(signature[32:64]);
        require(uint256(s) <= HALF_ORDER, ECDSAInvalidSignatureS(s));
        signer = ecrecover(hash, uint8(signature[64]), bytes32(signature[:32]), s);
        require(signer != address(0), ECDSAInvalidSignature());
    }
}
