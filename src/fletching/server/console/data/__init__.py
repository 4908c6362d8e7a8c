"""Pages for whoever works with data: tables, their rows and history, queries, uploads."""
