"""Teaching edits: pairs, training, and what the experts have learned."""
