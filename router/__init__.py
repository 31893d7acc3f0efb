"""The router: places transfers on groups and forwards them. Stateless: kill it at any time."""
