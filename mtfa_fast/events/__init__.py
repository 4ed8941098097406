"""What a detector answers: ``Event`` and ``Result``, the decision behind them, and the formats they are written in.

Stands on ``config`` and the C++ core; imported by all that decides, writes, draws or scores events. Torch-free.
The public face: ``Event``, ``Result``, ``decide`` (``result``), ``LabelledSpan`` (``span``), ``Writer`` (``writers``).
"""
