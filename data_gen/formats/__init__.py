"""Read and write the formats of other projects; one module per format."""
