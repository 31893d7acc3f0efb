"""The demonstration: a real ledger through a cluster that is killed half-way, against Beancount's own balances."""
