"""Sound in: recordings decoded and resampled (``files``), samples to log-mel (``features``).

Stands on ``config`` and the C++ core alone; everybody who reads a recording imports it. Torch-free.
The public face: ``AudioError``, ``read``, ``log_mel``.
"""
