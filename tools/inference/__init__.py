"""What an encoder says of recordings."""
