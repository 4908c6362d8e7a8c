"""Tables, their namespaces, partitions and statistics."""
