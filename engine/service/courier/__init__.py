"""The courier: drives open chains to their end from the leader of each group (DESIGN §7)."""
