"""Readers and writers of the formats in which others hold recordings; each module is one format."""
