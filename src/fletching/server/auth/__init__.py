"""Who asks: signatures, tokens, keys."""
