"""Use an encoder: recordings as input, queries, and the card of exported weights."""
