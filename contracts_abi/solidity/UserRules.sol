// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Handles} from "./Handles.sol";
import {Signatures} from "./Signatures.sol";
import {
    ContractsInfo,
    CtHandleContractPair,
    DelegationAccounts,
    HandleEntry,
    RequestValidity,
    RequestValiditySeconds
} from "./Structs.sol";

/// What the Gateway asks of a user decryption request. For unified requests neither signature nor ownership is looked at.
library UserRules {
    error EmptyCtHandleContractPairs();
    error EmptyHandles();
    error EmptyContractAddresses();
    error ContractAddressesMaxLengthExceeded(uint256 maxLength, uint256 actualLength);
    error ContractNotInContractAddresses(address contractAddress, address[] contractAddresses);
    error CtHandleChainIdDiffersFromContractChainId(bytes32 ctHandle, uint256 chainId, uint256 contractChainId);
    error UserAddressInContractAddresses(address userAddress, address[] contractAddresses);
    error DelegatorAddressInContractAddresses(address delegatorAddress, address[] contractAddresses);
    error InvalidNullDurationDays();
    error InvalidNullDurationSeconds();
    error MaxDurationDaysExceeded(uint256 maxValue, uint256 actualValue);
    error MaxDurationSecondsExceeded(uint256 maxValue, uint256 actualValue);
    error StartTimestampInFuture(uint256 currentTimestamp, uint256 startTimestamp);
    error UserDecryptionRequestExpired(uint256 currentTimestamp, RequestValidity requestValidity);
    error UserDecryptionRequestExpiredSeconds(uint256 currentTimestamp, RequestValiditySeconds requestValidity);
    error InvalidUserSignature(bytes signature);

    bytes32 private constant DIRECT_TYPE = keccak256(
        "UserDecryptRequestVerification(bytes publicKey,address[] contractAddresses,uint256 startTimestamp,uint256 durationDays,bytes extraData)"
    );
    bytes32 private constant DELEGATED_TYPE = keccak256(
        "DelegatedUserDecryptRequestVerification(bytes publicKey,address[] contractAddresses,address delegatorAddress,uint256 startTimestamp,uint256 durationDays,bytes extraData)"
    );
    uint256 private constant MAX_CONTRACTS = 10;
    uint256 private constant MAX_DAYS = 365;

    function checkLegacy(
        CtHandleContractPair[] calldata pairs,
        RequestValidity calldata validity,
        ContractsInfo calldata contracts
    ) internal view {
        require(pairs.length != 0, EmptyCtHandleContractPairs());
        require(contracts.addresses.length != 0, EmptyContractAddresses());
        _checkNumber(contracts.addresses);
        _checkDays(validity);
        for (uint256 i = 0; i < pairs.length; ++i) {
            _checkChain(pairs[i].ctHandle, contracts.chainId);
            require(
                contains(contracts.addresses, pairs[i].contractAddress),
                ContractNotInContractAddresses(pairs[i].contractAddress, contracts.addresses)
            );
        }
    }

    function checkUnified(
        HandleEntry[] calldata entries,
        address[] calldata contracts,
        RequestValiditySeconds calldata validity
    ) internal view {
        require(entries.length != 0, EmptyHandles());
        _checkNumber(contracts);
        uint256 longest = MAX_DAYS * 1 days;
        require(validity.durationSeconds != 0, InvalidNullDurationSeconds());
        require(
            validity.durationSeconds <= longest, MaxDurationSecondsExceeded(longest, validity.durationSeconds)
        );
        _checkBegun(validity.startTimestamp);
        require(
            block.timestamp <= validity.startTimestamp + validity.durationSeconds,
            UserDecryptionRequestExpiredSeconds(block.timestamp, validity)
        );
        for (uint256 i = 1; i < entries.length; ++i) {
            _checkChain(entries[i].handle, Handles.chainId(entries[0].handle));
        }
    }

    function checkDirectSignature(
        address user,
        RequestValidity calldata validity,
        ContractsInfo calldata contracts,
        bytes calldata publicKey,
        bytes calldata extraData,
        bytes calldata signature
    ) internal view {
        require(
            !contains(contracts.addresses, user), UserAddressInContractAddresses(user, contracts.addresses)
        );
        bytes32 hash = keccak256(
            abi.encode(
                DIRECT_TYPE,
                keccak256(publicKey),
                keccak256(abi.encodePacked(contracts.addresses)),
                validity.startTimestamp,
                validity.durationDays,
                keccak256(extraData)
            )
        );
        _checkSigner(user, contracts.chainId, hash, signature);
    }

    function checkDelegatedSignature(
        DelegationAccounts calldata accounts,
        RequestValidity calldata validity,
        ContractsInfo calldata contracts,
        bytes calldata publicKey,
        bytes calldata extraData,
        bytes calldata signature
    ) internal view {
        require(
            !contains(contracts.addresses, accounts.delegatorAddress),
            DelegatorAddressInContractAddresses(accounts.delegatorAddress, contracts.addresses)
        );
        bytes32 hash = keccak256(
            abi.encode(
                DELEGATED_TYPE,
                keccak256(publicKey),
                keccak256(abi.encodePacked(contracts.addresses)),
                accounts.delegatorAddress,
                validity.startTimestamp,
                validity.durationDays,
                keccak256(extraData)
            )
        );
        _checkSigner(accounts.delegateAddress, contracts.chainId, hash, signature);
    }

    function contains(address[] calldata list, address wanted) internal pure returns (bool) {
        for (uint256 i = 0; i < list.length; ++i) {
            if (list[i] == wanted) return true;
        }
        return false;
    }

    function _checkDays(RequestValidity calldata validity) private view {
        require(validity.durationDays != 0, InvalidNullDurationDays());
        require(validity.durationDays <= MAX_DAYS, MaxDurationDaysExceeded(MAX_DAYS, validity.durationDays));
        _checkBegun(validity.startTimestamp);
        require(
            block.timestamp <= validity.startTimestamp + validity.durationDays * 1 days,
            UserDecryptionRequestExpired(block.timestamp, validity)
        );
    }

    function _checkSigner(address user, uint256 chainId, bytes32 hash, bytes calldata signature) private view {
        bytes32 digest = Signatures.digest(chainId, address(this), hash);
        require(Signatures.recover(digest, signature) == user, InvalidUserSignature(signature));
    }

    function _checkNumber(address[] calldata contracts) private pure {
        require(
            contracts.length <= MAX_CONTRACTS, ContractAddressesMaxLengthExceeded(MAX_CONTRACTS, contracts.length)
        );
    }

    function _checkBegun(uint256 start) private view {
        require(start <= block.timestamp, StartTimestampInFuture(block.timestamp, start));
    }

    function _checkChain(bytes32 handle, uint256 chainId) private pure {
        uint256 own = Handles.chainId(handle);
        require(own == chainId, CtHandleChainIdDiffersFromContractChainId(handle, own, chainId));
    }
}
