"""Sound in: recordings decoded and resampled (``files``), samples to log-mel (``features``).

``files`` stands on ``sources`` (what can be opened), ``containers`` and ``streams`` (what headers say and files hold),
``pyav`` (what libsndfile does not read), ``levels`` (samples that are not what they should be) and ``folders``.

Stands on ``config`` and the C++ core alone; everybody who reads a recording imports it. Torch-free.
The public face: ``AudioError``, ``AudioWarning``, ``read``, ``log_mel``.
"""
