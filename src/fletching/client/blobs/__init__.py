"""Blobs: cells, values, transfers, streams, folders."""
