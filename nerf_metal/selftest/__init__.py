"""The named cases of every kernel: recipe, reference result, tolerance. The tests run them, and so does
``nerf-metal doctor --full`` on a person's own machine.

One file for each op (composite has three): cases with ``build``, ``run_<op>`` that runs one in a
:class:`nerf_metal.selftest.modes.Mode` and gives results by name, and ``compare_<op>`` that holds them against the
float64 reference on the CPU. Tolerances stand in ``tolerances.py``. What is found wrong raises
:class:`nerf_metal.selftest.tolerances.MismatchError`; ``assert`` is for tests alone, since Python may run without.
"""
