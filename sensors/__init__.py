"""What wakes the graph: new records in Kafka, and numbers that have become stale.

Sensors only look at watermarks, progress and the lake's ledgers, and ask for runs; they write nothing. Their
decisions are pure functions of what they saw.
"""
