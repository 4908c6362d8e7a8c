"""The torture run: writers and readers through a faulty network to a server that is killed all the time.

``python -m torture --seconds 60 --seed 7`` (``make torture SECONDS=60``). See docs/durability.md.
"""
