"""SQL: the statements that create and change tables, and the predicates that filter rows.

sqlglot parses; what it yields is turned into requests of `protocol.admin` and pyarrow expressions.
"""
