"""Wire formats: values framed with the id of their schema, decoded in bulk, schema by schema."""
