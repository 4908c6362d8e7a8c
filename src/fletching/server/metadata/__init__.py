"""The metadata endpoints that ODPS clients look tables up with.

They are those of docs/conformance.md, "Metadata endpoints".
"""
