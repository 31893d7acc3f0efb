"""What one replica counts of itself for its operators, and how it is told (DESIGN §12)."""
