"""The Storage API's vocabulary: what is said, in which words, and how it looks on the wire. Pure."""
