"""Gaussians made from a prediction, and what is taken away from them."""
