"""Text into trees: the dialect's grammar on sqlglot, and what is said of a text that does not fit it."""
