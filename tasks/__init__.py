"""Thin Prefect tasks: each calls one step of the library and shows its progress. No arithmetic here."""
