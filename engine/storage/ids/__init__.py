"""Known ids: which transfers are in the journal, where, and what became of those that others follow."""
