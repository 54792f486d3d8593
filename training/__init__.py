"""Teaching an adapter from before/after pairs: the pairs, and what is learned from them."""
