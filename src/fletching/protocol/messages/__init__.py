"""Requests and responses of the Storage API and of table administration."""
