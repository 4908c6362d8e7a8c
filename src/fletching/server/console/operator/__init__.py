"""Pages for whoever operates the service."""
