"""Rows over plain HTTP, for curl, browsers, R, JavaScript: docs/reference/http.md is the specification."""
