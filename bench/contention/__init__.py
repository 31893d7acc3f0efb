"""What contention costs: hot accounts beside uniform ones, and live traffic beside a payroll, on one cluster."""
