"""Speed, measured so that it is hard to fool oneself: a check before every time, contestants in turns, noise named.

``machine`` says what the hardware can do, ``contestants`` and ``peers`` are what is compared, ``timing`` compares,
``checks`` refuses the time of what computes something else. ``mtfa-fast bench`` and the repository's ``benchmarks``
are built from these.
"""
