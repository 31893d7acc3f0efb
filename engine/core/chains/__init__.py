"""Chains over groups (DESIGN §7): their plan, the words about them, their one driver, their steps as arrays."""
