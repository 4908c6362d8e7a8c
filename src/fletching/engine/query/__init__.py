"""SQL statements: run them, keep what came of them."""
