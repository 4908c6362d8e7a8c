"""The SQL dialect: statements and predicates, parsed once."""
