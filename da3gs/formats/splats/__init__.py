"""Splat formats, one module each, with a row in ``formats.registry``."""
