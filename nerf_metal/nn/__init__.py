"""Modules that a researcher composes: hash encoding, fused MLP, occupancy grid, volume rendering, Adam."""
