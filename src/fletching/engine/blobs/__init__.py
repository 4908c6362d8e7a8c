"""Blobs: references, packs, uploads, reading and collection. Synchronous, thread-safe."""
