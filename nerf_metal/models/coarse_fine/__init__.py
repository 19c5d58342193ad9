"""The model of the NeRF paper with its two networks, coarse and fine."""
