"""The Storage API's actions over HTTP."""
