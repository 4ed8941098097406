"""The implementations of the ops: one folder per backend, in each one file per op, the same stem everywhere.

A file ``<op>.py`` holds a function called as the op, with its tensors and numbers but without ``backend``,
and ``supports`` with the same arguments, which answers with a :class:`~.support.Support`. What else the file
offers to the dispatch, ``<op>_<rest>``, has its ``supports_<rest>``. The op has checked shapes, dtypes and
devices before and has brought maps into one layout; ``supports`` says what this backend cannot do beyond that.

Backends import neither each other nor the ops; ``reference`` imports torch and nothing else. They are imported
on first use, so that a machine without Triton or a GPU can import everything above them.
"""
