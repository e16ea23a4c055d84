"""Losses of every model that is trained."""
