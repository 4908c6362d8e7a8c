"""The rules of the service: tables, sessions, reading, writing, blobs, retention. Synchronous, no HTTP."""
