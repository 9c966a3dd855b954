// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {KeyType} from "./KeyTypes.sol";

/// The structs of fhevm v0.14 that requests, replies and registries are made of. Field order is normative.

struct SnsCiphertextMaterial {
    bytes32 ctHandle;
    uint256 keyId;
    bytes32 snsCiphertextDigest;
    address[] coprocessorTxSenderAddresses;
}

struct HandleEntry {
    bytes32 handle;
    address contractAddress;
    address ownerAddress;
}

struct CtHandleContractPair {
    bytes32 ctHandle;
    address contractAddress;
}

struct RequestValidity {
    uint256 startTimestamp;
    uint256 durationDays;
}

struct RequestValiditySeconds {
    uint256 startTimestamp;
    uint256 durationSeconds;
}

struct ContractsInfo {
    uint256 chainId;
    address[] addresses;
}

struct DelegationAccounts {
    address delegatorAddress;
    address delegateAddress;
}

struct UserDecryptionRequestPayload {
    address userAddress;
    bytes publicKey;
    address[] allowedContracts;
    RequestValiditySeconds requestValidity;
    bytes extraData;
    bytes signature;
}

struct Coprocessor {
    address txSenderAddress;
    address signerAddress;
    string s3BucketUrl;
}

struct KmsNode {
    address txSenderAddress;
    address signerAddress;
    string ipAddress;
    string storageUrl;
}

struct KmsNodeParams {
    address txSenderAddress;
    address signerAddress;
    string ipAddress;
    string storageUrl;
    int32 partyId;
    string mpcIdentity;
    bytes caCert;
    string storagePrefix;
}

struct KmsThresholds {
    uint256 publicDecryption;
    uint256 userDecryption;
    uint256 kmsGen;
    uint256 mpc;
}

struct PcrValues {
    bytes pcr0;
    bytes pcr1;
    bytes pcr2;
}

enum ParamsType {
    Default,
    Test
}

struct KeyDigest {
    KeyType keyType;
    bytes digest;
}

struct KeyInfo {
    uint256 prepKeygenId;
    uint256 keyId;
    ParamsType paramsType;
    KeyDigest[] keyDigests;
}

struct EpochKeyResult {
    uint256 prepKeygenId;
    uint256 keyId;
    KeyDigest[] keyDigests;
    bytes signature;
}

struct EpochCrsResult {
    uint256 crsId;
    uint256 maxBitLength;
    bytes crsDigest;
    bytes signature;
}
