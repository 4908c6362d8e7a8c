"""HTTP/1.1: one connection, one exchange, one response body."""
