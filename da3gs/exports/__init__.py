"""Splat files read back, their axes, and what is written beside them."""
