"""Scans, splits and readers."""
