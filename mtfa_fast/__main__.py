"""``python -m mtfa_fast``, and ``torchrun -m mtfa_fast train ...``."""

import sys

from .cli import main

sys.exit(main())
