"""``python -m engine.cli``: the command line, for processes that this project starts."""

from __future__ import annotations

import sys

from engine.cli import main

sys.exit(main())
