"""How chains write transactions, calls and logs as bytes: pure functions, no keys and no network."""
