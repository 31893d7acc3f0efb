"""The command line `posting-engine`: composes everything; nobody imports it."""
