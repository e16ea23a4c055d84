"""Relative pose of two views."""
