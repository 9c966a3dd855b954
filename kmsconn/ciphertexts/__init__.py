"""Where ciphertexts lie, how they are fetched, how they are proved right."""
