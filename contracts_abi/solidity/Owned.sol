// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// Whoever deployed a contract for a test may turn its knobs; nobody else.
abstract contract Owned {
    error NotTheOwner(address sender);

    address private immutable OWNER;

    constructor(address owner) {
        OWNER = owner;
    }

    modifier onlyOwner() {
        require(msg.sender == OWNER, NotTheOwner(msg.sender));
        _;
    }
}
