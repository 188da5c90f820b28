"""Where the cases are, and what may come of one."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = "HEADWATER_CONFORMANCE"
"""The environment variable that says where the cases are, if not beside the project."""


class OutOfScope(Exception):
    """The case asks for something that is no number of ours; the message is the rule that says so."""


def shared() -> Path:
    """The folder of cases: what the environment says, else ``../shared/conformance`` from the project's root."""
    beside = Path(__file__).parents[3] / "shared" / "conformance"
    return Path(os.environ.get(FOLDER, beside))
