"""The write path: sessions and streams, ingest of Arrow bodies, commits, exactly-once."""
