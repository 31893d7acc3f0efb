"""Read models, built from the journal off the hot path: statements and as-of balances (DESIGN §9).

They have an LMDB environment of their own and a thread of their own; they can be deleted at any time and are then built
anew. Every answer says how far they are.
"""
