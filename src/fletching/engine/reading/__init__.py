"""Reading: sessions pin a version, splits divide it, plans say which stored bytes make a reply."""
