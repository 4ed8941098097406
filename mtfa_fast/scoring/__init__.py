"""Are the detections right? Counts and rates of event lists, evaluation of a detector, the search for its decisions.

Stands on ``events`` and ``data``; imported by ``experiments``, ``visualization`` and the commands. Torch-free.
The public face: ``event_scores`` (``metrics``), ``evaluate`` (``evaluation``), ``tune`` (``tuning``).
"""
