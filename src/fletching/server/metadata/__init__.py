"""The metadata endpoints that ODPS clients look tables up with (PROTOCOL section 8)."""
