"""The outside world: the lake, Kafka, wire formats, and the settings that say where they are.

What belongs here: code that talks to something outside the process, or reads its formats.
What does not: what a number means (``platform_assets.semantics``) and what a table is
(``platform_assets``). This package imports neither.
"""
