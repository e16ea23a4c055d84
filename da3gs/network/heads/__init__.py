"""Heads: backbone features to depth, rays, sky and splat channels."""
