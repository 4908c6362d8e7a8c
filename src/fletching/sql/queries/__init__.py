"""Queries as DuckDB's SQL: what they read, the types of their expressions, how they are written."""
