"""Posed data sets: their layouts, and photos with cameras out of them."""
