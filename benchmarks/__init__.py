"""Measurements and comparisons; never imported by the package."""
