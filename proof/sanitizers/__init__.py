"""The launcher and the host kernels under AddressSanitizer and UndefinedBehaviorSanitizer.

``python -m proof.sanitizers`` copies the checkout, builds the copy's extension with the sanitizers and runs the named
cases in it. The checkout's own extension is left alone.
"""
