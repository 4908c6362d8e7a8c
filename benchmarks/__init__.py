"""Measurements: Fletching beside its rivals and its floors, in one process tree and one run."""
