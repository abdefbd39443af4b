"""Prefect flows: one story a file, readable from top to bottom."""
