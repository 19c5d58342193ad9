"""The two networks of the NeRF paper, coarse and fine."""
