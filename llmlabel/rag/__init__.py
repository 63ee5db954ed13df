"""Curate a corpus for retrieval, and measure whether retrieval got better."""
