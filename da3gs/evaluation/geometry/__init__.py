"""Geometry tasks of the official benchmark: poses, depth and surfaces against the truth."""
