"""Functions of the dialect, and the types of what they take and give."""
