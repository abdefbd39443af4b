"""Corpora, shards, artifact keys, the store and the curated dataset: the only room that knows files and URLs."""
