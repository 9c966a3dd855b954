"""The generation that operators run today: Decryption, GatewayConfig, ACL, ProtocolConfig of fhevm v0.14."""
