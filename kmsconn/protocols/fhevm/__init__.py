"""The generation that operators run today: the contracts and Cores of fhevm 0.14 and of 0.15."""
