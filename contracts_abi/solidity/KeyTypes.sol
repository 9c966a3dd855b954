// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// What a key set is made of, as of the tag v0.14.0. `later/KeyTypes.sol` stands in its place in later contracts of the same source.
enum KeyType {
    Server,
    Public
}
