"""Helpers that every room may use: errors, files, text, pictures, output, the machine. They know nothing of NeRFs."""
