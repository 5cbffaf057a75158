"""The packed data set: reading, writing, protocols."""
