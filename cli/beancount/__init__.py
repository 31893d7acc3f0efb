"""Importing a Beancount ledger: read by Beancount in a process of its own, posted as chains of transfers."""
