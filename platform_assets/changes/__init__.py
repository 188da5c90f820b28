"""Change data capture: change events of a relational database become dimensions.

Kafka → `bronze/oltp_changes` → `silver/row_changes` → the dimensions in `silver`. What a dimension is stands in
`dimension`; the versions and latest values themselves are pure functions in `semantics.dimensions`.
"""
