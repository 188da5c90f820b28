"""Events as they arrived: append-only, deterministic, one file per stream."""
