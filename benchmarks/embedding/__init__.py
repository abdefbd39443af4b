"""How fast embeddings are extracted, beside the bare model and what people would write: `make bench-embed`."""
