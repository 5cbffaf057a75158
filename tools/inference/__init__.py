"""Use an encoder: features of any recordings, a gallery to search, export."""
