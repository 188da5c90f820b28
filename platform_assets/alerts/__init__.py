"""What is wrong, told once, to whom it concerns: conditions become incidents, incidents messages.

`incidents`, `deliveries` and `messages` are pure; `conditions` looks at Dagster, Kafka and the lake (`of_tables`,
`of_runs`, `of_streams`); `reconciling` puts them together. A room of its own, because checks and freshness are only two
of what it watches.
"""
