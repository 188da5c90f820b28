"""Events decoded, judged, deduplicated; what was refused, and the count of both."""
