"""How well an image, a pose, a depth map or a point cloud agrees with another."""
