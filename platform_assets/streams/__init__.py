"""How what is new comes in: micro-batches from Kafka to silver and to the tables that follow it.

What belongs here: the writer of the streams (`micro_batches`), what follows silver (`followers`), the explicit
ways on after a loss (`epochs`), and the op job that holds them for a lease (`advance`). What does not: what a row
means (each table's own file), and rebuilding (the assets).
"""
