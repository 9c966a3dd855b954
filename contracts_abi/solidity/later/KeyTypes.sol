// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// What a key set is made of, as of 0.15. A contract that was compiled without the last one reverts without data where it reads it.
enum KeyType {
    Server,
    Public,
    Reserved,
    CompressedKeySet
}
