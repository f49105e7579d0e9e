"""What a loyalty programme decides: what an event earns, how long it lives, which tier that makes, what a refund takes.

Pure: the same programme, events and instants give the same answer for ever. The ledger keeps what comes out.
"""
