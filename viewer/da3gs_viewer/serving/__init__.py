"""Serving: the address, who may talk, and viser's server."""
