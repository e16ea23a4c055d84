"""Inputs that are broken or hostile, and what the command line must say to each."""
