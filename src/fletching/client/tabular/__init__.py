"""Tabular data as users have it, and names as they write them."""
