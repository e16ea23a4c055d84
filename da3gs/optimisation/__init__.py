"""Splats improved against photos: gradient descent, densification, budget."""
