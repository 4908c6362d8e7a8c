"""Support for tests of Fletching and of what is built on it: fixtures, strategies, awkward peers.

- ``fletching.testing.plugin``: the pytest fixture ``fletching_server``, there by installation.
- ``fletching.testing.replay``: a peer that answers HTTP from a script, also wrongly.
- ``fletching.testing.strategies``: Hypothesis strategies for Arrow schemas and record batches.

The modules are imported by name, because each needs something else installed.
"""
