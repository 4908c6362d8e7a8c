"""The two ways to reach a service: over HTTP, and in process over a folder."""
