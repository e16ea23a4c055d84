"""Cameras from photos, and the frame that a world is laid into."""
