"""Cameras and camera paths in the files of other programs."""
