"""The connector among chains that are not ours: anvil with our Solidity contracts; Core and buckets are the emulated ones."""
