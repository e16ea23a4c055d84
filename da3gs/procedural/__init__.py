"""Drawn scenes with true depth and cameras, and the ray caster that draws them."""
