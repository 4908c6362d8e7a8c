"""The ``fletching`` command: one module per command, results on stdout, diagnostics on stderr."""
