"""Metrics of images, poses, depth maps and point clouds."""
