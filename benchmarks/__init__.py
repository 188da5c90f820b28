"""How fast the platform is, always as a ratio to a peer that was measured in the same run.

What belongs here: programs that measure (`stages`, `freshness`, `growth`), and what they share: the traffic
(`traffic`), the same work by the bare libraries (`bare`), a lake with a past (`past`), the stopwatch (`timing`) and the
outcome's form (`report`). What does not: promises. Those are tests.
"""
