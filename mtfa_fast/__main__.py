"""``python -m mtfa_fast``, and ``torchrun -m mtfa_fast train ...``."""

import sys

from .commands.cli import main

if __name__ == "__main__":
    sys.exit(main())
