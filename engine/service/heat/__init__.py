"""Which accounts take most of a group's work: measured on its leader, told with reasons. Never part of the state."""
