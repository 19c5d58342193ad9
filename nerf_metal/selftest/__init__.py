"""The self-test: named cases of every kernel, and probes of torch's own ops.

The tests run the cases, and ``nerf-metal doctor --full`` runs both on a user's machine. Each op has a file with its
cases (composite has three): ``run_<op>`` runs a case in a :class:`nerf_metal.selftest.modes.Mode` and returns results
by name, and ``compare_<op>`` compares them with the float64 reference on the CPU. The tolerances are in
``tolerances.py``. A wrong result raises :class:`nerf_metal.selftest.tolerances.MismatchError`. Only tests use
``assert``, since Python may run without it.
"""
