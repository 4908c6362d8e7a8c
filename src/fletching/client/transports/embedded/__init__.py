"""The transport into an engine of the same process."""
