"""Is the fast path equal to the definition? The float64 reference as a measure, and comparisons with it.

Stands on ``nn`` and the engines; imported by ``measuring``, the commands and the tests. Needs torch, but for
``comparison``.
The public face: ``verify`` (``verification``), ``Reference`` (``reference``), ``compare`` (``comparison``).
"""
