"""`python -m engine.broker`: prepare the embedded broker, so that its first start is quick and needs no network."""

from __future__ import annotations

import sys

from engine.broker.prepare import prepare
from topics.errors import OperatorError

if __name__ == "__main__":
    try:
        prepare()
    except OperatorError as error:
        sys.exit(f"tidegate: {error}")
