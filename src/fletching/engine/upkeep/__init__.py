"""What runs beside users: compaction, retention, verification, and when."""
