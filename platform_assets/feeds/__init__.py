"""Third-party files: from the landing folder to bronze, and from there to one silver table a feed.

What belongs here: what a feed is (`feed`), how its files are read (`formats`), and the two motions over them
(`taking` adds what landed, `rebuilding` makes days equal to what the landed files say). A feed's own columns and
rules stand with its table in `silver`.
"""
