"""Filters as trees: conditions on rows, and what they tell of whole segments."""
