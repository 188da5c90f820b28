"""What the numbers mean: pure functions from frames to frames.

No Dagster, no input or output, no clock, no import of the project's other packages. What is open to choice is a
parameter, with the platform's choice as its default.
"""
