"""What ``mtfa-fast bench`` measures on a user's machine: a check before every time, contestants in turns, noise named.

Stands on ``checking`` and the engines; imported by the commands, and by the repository's ``benchmarks/``, whose scripts
make this project's own tables with it. Needs torch, but for ``machine``, ``networks`` and ``timing``.
``machine`` says what the hardware can do, ``contestants`` and ``peers`` are what is compared, ``timing`` compares,
``checks`` refuses the time of what computes something else, ``rows`` puts them together.
"""
