"""Reading stored bytes past the service, as its manifests say."""
