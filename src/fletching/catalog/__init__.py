"""What exists and what is visible: tables, partitions, segments, sessions, in one SQL database.

One module per concern, made of functions that take an open connection, so that the engine decides
what is one transaction. ``schema.py`` has the tables, ``database.py`` connections and transactions,
``migrations/`` the history.
"""
