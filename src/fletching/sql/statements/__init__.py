"""What a statement asks for, as requests of the protocol and queries."""
