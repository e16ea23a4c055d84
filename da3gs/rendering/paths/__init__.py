"""Camera paths: named ones, those of the official program, and those that keep clear of what the photos show."""
