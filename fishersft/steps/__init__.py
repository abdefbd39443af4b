"""The cached steps of a run: load by key, compute with one room of the library, save, return the key.

Prefect's tasks and the command line both call these; nothing here knows either.
"""
