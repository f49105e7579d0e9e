"""The ledger's arithmetic: what a customer has of an asset, and what each change of it does. Integers, no I/O."""
