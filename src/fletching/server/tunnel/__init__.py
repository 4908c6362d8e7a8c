"""The tunnels: the row protocol below the Storage API, which everyday ODPS clients read and write tables by."""
