"""Proofs that need more than the package: the shader checker, the macOS cross-build, CUDA, sanitizers."""
