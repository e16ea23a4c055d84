"""Resampling of photos: network sizes, lens distortion, panoramas as pinhole views."""
