"""ODPS types, Arrow types, and schemas between them."""
