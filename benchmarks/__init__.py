"""The benchmarks: every number of the design, next to its references, in one run.

``python -m benchmarks`` in a checkout, or ``frys bench``; docs/benchmarks.md says how to read the result.
Whatever is measured runs in a process of its own (``contenders/``), so that nothing is warmed, slowed or
grown by what is measured beside it. This process builds the plugins, gives the turns, and reports.
"""
