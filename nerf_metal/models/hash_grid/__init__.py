"""The hash grid of instant-ngp and its small fused networks."""
