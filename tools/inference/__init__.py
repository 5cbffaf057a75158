"""Using an encoder: recordings as input, queries, and the card that goes with exported weights."""
