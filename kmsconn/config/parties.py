"""The settings of whom the connector meets: the chains, the contracts of its generation, the Core and the wallet."""

from collections.abc import Iterable, Mapping
from itertools import count
from typing import Annotated

import attrs

from kmsconn.config import forms, places
from kmsconn.config.description import (
    OLDER,
    Alias,
    AwsKmsKey,
    CompressedKeySets,
    Made,
    OptionName,
    Secret,
    Section,
    compressed_key_sets,
)
from kmsconn.config.structuring import HostChainTables
from kmsconn.ethereum.abi import Domain
from kmsconn.ethereum.addresses import Address
from kmsconn.model.requests import FHEVM
from kmsconn.transport.urls import show_origin


@attrs.frozen
class Chain:
    """One chain and how to reach it: URLs in order of preference, ``http(s)`` or ``ws(s)``. ``option`` names them for operators."""

    chain_id: int
    urls: tuple[str, ...] = attrs.field(repr=lambda urls: f"<{len(urls)} urls>")
    option: str = attrs.field(default="the option with its URL", eq=False, repr=False)


@attrs.frozen
class HostChain:
    """A chain whose ACL says who may see what."""

    chain: Chain
    acl: Address


@attrs.frozen
class ChainOptions:
    """The options that name the chains.

    network: Known deployment whose chain ids and contract addresses are used ([networks](#networks)): `testnet`, `mainnet` or `devnet`;
      other options override them. `--network` of a command does the same.
    gateway_url: JSON-RPC of the Gateway, `http(s)` or `ws(s)`: one, a comma list, or a list in order of preference. A websocket carries
      calls, broadcasts and wake-ups on one connection; over HTTP the reader polls.
    gateway_ws_url: Websocket of the Gateway beside an HTTP `gateway_url`. The connector prefers it and falls back to HTTP.
    gateway_chain_id: Chain id of the Gateway. The connector compares it with the node's before it uses the node.
    ethereum_url: JSON-RPC of Ethereum, in the forms of `gateway_url`.
    ethereum_ws_url: Websocket of Ethereum beside an HTTP `ethereum_url`.
    ethereum_chain_id: Chain id of Ethereum. The connector compares it with the node's before it uses the node.
    host_chains: The host chains, whose ACL contracts control access to ciphertexts: a list of `url`, `chain_id` and `acl_address`. A JSON
      array in the environment replaces the file's list. An entry of Solana is accepted and not served ([Solana](solana.md)).
    """

    gateway_url: places.RpcUrls
    gateway_chain_id: Annotated[forms.ChainId, Alias("chain_id", OLDER)]
    ethereum_url: places.RpcUrls
    ethereum_chain_id: forms.ChainId
    host_chains: HostChainTables
    gateway_ws_url: places.WebsocketUrls | None = None
    ethereum_ws_url: places.WebsocketUrls | None = None
    network: forms.Name | None = None


@attrs.frozen
class Chains:
    """The chains of one deployment. In the generation ``httpz-rc7`` both are the same one, and there are no host chains.

    ``not_served``: ids of further host chains, of a kind that this version does not serve, and their indices in ``host_chains``.
    """

    gateway: Chain
    ethereum: Chain
    host_chains: tuple[HostChain, ...]
    not_served: Mapping[int, int] = attrs.field(factory=dict)

    def indexed(self) -> Iterable[tuple[int, HostChain]]:
        """Return each host chain with its index in the option ``host_chains``."""
        skipped = self.not_served.values()
        indices = (index for index in count() if index not in skipped)
        return zip(indices, self.host_chains, strict=False)


@attrs.frozen
class Contract:
    """A contract and its EIP-712 domain.

    address: Address of the {about}.
    domain_name: Name of its EIP-712 domain.
    domain_version: Version of its EIP-712 domain.
    """

    address: places.ContractAddress
    domain_name: forms.Text
    domain_version: forms.Text = "1"

    def domain(self, chain_id: int) -> Domain:
        """Return the domain of the contract on a chain."""
        return Domain(self.domain_name, self.domain_version, chain_id, self.address)


def _section(prefix: str, domain_name: str) -> Section:
    return Section(prefix, {"domain_name": domain_name})


@attrs.frozen
class S3Fallback:
    """Where ciphertexts are looked for when the chain names no usable bucket.

    region: Region of a fallback bucket, for ciphertexts without a usable bucket on chain. Required in its table.
    bucket: Name of the fallback bucket. Required in its table.
    endpoint: URL of the fallback bucket's S3 service, if it is not AWS's own.
    """

    region: forms.Name
    bucket: forms.Name
    endpoint: places.HttpUrl | None = attrs.field(
        default=None, repr=lambda url: str(url and show_origin(url))
    )


@attrs.frozen
class Httpz:
    """What only the generation ``httpz-rc7`` asks for.

    plaintext_encoding: Encoding of public results by the Core: `p3`, `p1`, `p2`, `raw`, or `auto`, which detects it by the signature.
    fhe_parameters: Parameter numbers of the Core by the digest on chain, `{ 0x… = 1 }`. Default: the Core's own default for all.
    preprocessing: Whether keys need a preprocessing; a centralised Core has none.
    key_management_at_finality: Whether key operations wait until their block is final.
    tolerant_digests: Accept ciphertexts whose digest differs from the one on chain, as that generation did. For test networks only.
    """

    plaintext_encoding: forms.PlaintextEncoding = "auto"
    fhe_parameters: forms.FheParameters = attrs.field(factory=dict)
    preprocessing: forms.Flag = True
    key_management_at_finality: forms.Flag = True
    tolerant_digests: forms.Flag = False
    s3: Annotated[S3Fallback | None, Made(S3Fallback, Section("s3_config", optional=True))] = None


@attrs.frozen
class ProtocolSettings:
    """The generation of the protocol, its contracts, and what is asked of the Core.

    In the generation ``httpz-rc7`` ``decryption_contract`` is the DecryptionManager, ``gateway_config_contract`` and
    ``protocol_config_contract`` are HTTPZ, and ``kms_generation_contract`` is the KeyManager.

    profile: Generation of the protocol.
    compressed_key_sets: Whether the Core is asked for compressed key sets. All nodes of a network must ask for the same, or no key is
      agreed on. `auto`: yes where KMSGeneration is one of 0.3.0, no before. A key keeps what its preparation was started with, and the
      migration of a key is always compressed.
    preprocessing_ids: Preprocessing ids that a new epoch names for keys, `{ 0x04… = "0x03…" }`, where a Core has recorded others than the
      connector names. By default it names that of a key's migration, and otherwise that of the contract. All nodes must name the same,
      because they sign it.
    erc1271_gas_limit: Gas limit of a signature check by a contract (ERC-1271). The default is above the 100000 of 0.14, which some contract
      wallets exceed.
    """

    decryption_contract: Annotated[Contract, _section("decryption_contract", "Decryption")]
    gateway_config_contract: Annotated[Contract, _section("gateway_config_contract", "GatewayConfig")]
    protocol_config_contract: Annotated[Contract, _section("protocol_config_contract", "ProtocolConfig")]
    kms_generation_contract: Annotated[Contract, _section("kms_generation_contract", "KMSGeneration")]
    profile: forms.ProfileName = FHEVM
    compressed_key_sets: forms.CompressedSets = attrs.field(
        default=CompressedKeySets.AUTO, converter=compressed_key_sets
    )
    preprocessing_ids: forms.PreprocessingIds = attrs.field(factory=dict)
    erc1271_gas_limit: forms.Count = 250_000
    httpz: Annotated[Httpz, Section()] = attrs.field(factory=Httpz)


@attrs.frozen
class CoreTls:
    """TLS towards the Core; absent files mean plaintext as all shipped Cores have it.

    ca_file: Certificate authority of the Core, PEM.
    certificate_file: Certificate shown to the Core, PEM.
    key_file: Private key of that certificate, PEM.
    """

    ca_file: places.ExistingFile | None = None
    certificate_file: places.ExistingFile | None = None
    key_file: places.ExistingFile | None = None


@attrs.frozen
class CoreSettings:
    """How the Core is reached, and the bytes of its answers in memory at once.

    core_endpoints: The gRPC endpoints of this node's Core, `http://host:port`: one, a comma list, or a list of at most 42. The id of
      a request selects the endpoint.
    core_reply_budget: Limit on the bytes of large Core replies (over 1 MiB) received at the same time; further ones wait.
    healthcheck_timeout: Time limit for a health probe of a Core; a later answer raises an alert.
    """

    core_endpoints: Annotated[
        places.CoreEndpoints, Alias("kms_core_endpoint", OLDER), OptionName("kms_core_endpoints")
    ]
    core_tls: Annotated[CoreTls | None, Section("core_tls")] = None
    core_reply_budget: forms.ByteSize = 512 * 1024 * 1024
    healthcheck_timeout: Annotated[forms.Seconds, Alias("healthcheck_timeout_secs", OLDER, forms.seconds)] = (
        3.0
    )


@attrs.frozen
class WalletOptions:
    """The options that name the wallet.

    private_key: Key of the tx sender, 32 bytes as hex, `0x` optional. Prefer `private_key_file`.
    private_key_file: File with the key of the tx sender as hex (mode 0600). A systemd credential `private_key` is found without this
      option.
    signing_key_path: File with a signing key written by the KMS Core (its safe serialisation, 91 bytes), used as the key of the tx
      sender.
    mnemonic: BIP-39 phrase in English without a passphrase; the key is at `m/44'/60'/0'/0/account_index`.
    account_index: Account of the mnemonic. Default: the number after the last dash of `service_name`, else 0.
    key_id: Key of the tx sender in AWS KMS: id, ARN or `alias/…` of an ECC_SECG_P256K1 key for SIGN_VERIFY. Credentials come from the
      usual places of the AWS SDKs. Needs the extra `aws`.
    region: Region of that key. Default: the resolution of the AWS SDKs, or `us-east-1` if an endpoint is set.
    endpoint: URL of the AWS KMS service, if it is not AWS's own.
    allow_raw_key_on_mainnet: Allow a wallet that is not in AWS KMS to send to a main network (chain ids 1 and 261131).
    tx_sender_address: Address of the node's tx sender. With `mode = "shadow"`, or without the role `send`, it takes the place of a
      wallet; beside a wallet it must be the wallet's address. A key in AWS KMS is compared at the start of a process that sends; the start
      is refused if it has another address.
    """

    private_key: forms.SecretText | None = None
    private_key_file: places.FilePath | None = None
    signing_key_path: places.FilePath | None = None
    mnemonic: forms.SecretText | None = None
    account_index: forms.Number | None = None
    key_id: Annotated[forms.Name | None, OptionName("aws_kms_config.key_id")] = None
    region: Annotated[forms.Name | None, OptionName("aws_kms_config.region")] = None
    endpoint: Annotated[places.HttpUrl | None, OptionName("aws_kms_config.endpoint")] = None
    allow_raw_key_on_mainnet: forms.Flag = False
    tx_sender_address: places.ContractAddress | None = None


@attrs.frozen
class WalletSettings:
    """The wallet that pays for replies: ``private_key`` or ``aws_kms``, one of the two (ValueError otherwise).

    A shadow needs neither, nor does a process that leaves sending to others: ``tx_sender_address`` says for which account it works.
    """

    private_key: Secret | None
    aws_kms: AwsKmsKey | None = None
    tx_sender_address: Address | None = None

    def __attrs_post_init__(self) -> None:
        if self.private_key is not None and self.aws_kms is not None:
            raise ValueError("the wallet is private_key or aws_kms, one of the two")
        if not self.can_sign and self.tx_sender_address is None:
            rule = "the wallet is private_key or aws_kms, one of the two"
            raise ValueError(f"{rule}; who sends nothing names tx_sender_address")

    @property
    def can_sign(self) -> bool:
        """Whether there is a key."""
        return self.private_key is not None or self.aws_kms is not None
