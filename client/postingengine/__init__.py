"""What upstream services install: the client of the posting engine."""
