// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Owned} from "./Owned.sol";
import {Signatures} from "./Signatures.sol";

/// A contract wallet that answers ERC-1271, well or badly. Holds nothing and pays nothing.
contract Wallet is Owned {
    enum Mood {
        Honest,
        No,
        Revert,
        Burn,
        Short
    }

    address private immutable HOLDER;
    Mood private _mood;

    constructor(address owner, address holder) Owned(owner) {
        HOLDER = holder;
    }

    function setMood(Mood mood) external onlyOwner {
        _mood = mood;
    }

    /// The magic value for what the holder signed.
    function isValidSignature(bytes32 hash, bytes calldata signature) external view returns (bytes4) {
        if (_mood == Mood.No) return 0xffffffff;
        if (_mood == Mood.Revert) revert();
        if (_mood == Mood.Burn) {
            while (true) {}
        }
        if (_mood == Mood.Short) {
            assembly {
                mstore(0, shl(224, 0x1626ba7e))
                return(0, 4)
            }
        }
        return Signatures.recover(hash, signature) == HOLDER ? this.isValidSignature.selector : bytes4(0xffffffff);
    }
}
