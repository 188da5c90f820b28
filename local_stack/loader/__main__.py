"""``python -m local_stack.loader``."""

from __future__ import annotations

import sys

from local_stack.loader.command import main

sys.exit(main())
