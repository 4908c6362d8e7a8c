"""Tables in the engines that people compute with; each module needs its engine, and only when used.

``polars``, ``duckdb``, ``torch``, ``dask``, ``ray`` and ``spark``: see docs/engines.md.
"""
