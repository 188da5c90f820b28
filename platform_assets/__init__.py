"""What exists: every table of the platform is a software-defined asset, declared in a file of its own.

What belongs here: declarations of tables, the transforms between them, their checks, and the one composition,
``definitions.build_defs``. What does not: how to reach Kafka or an object store (``resources``), and when
things run (``sensors``).
"""

import sys

# Where pyspark is installed, pandera imports its pandas API: half a second and a warning in every process, for nothing.
sys.modules.setdefault("pyspark.pandas", None)  # type: ignore[arg-type]  # none stands for "not to be imported"
