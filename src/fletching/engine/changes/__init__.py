"""Changes of tables: rows that go, come and are replaced, and the history that they make."""
