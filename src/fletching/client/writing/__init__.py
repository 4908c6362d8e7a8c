"""Write sessions, writers and how rows become bodies."""
