"""Raw recordings: files, normalisation, simulation."""
