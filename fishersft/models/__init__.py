"""Causal language models: finding, embedding, fine-tuning, generating and judging with them."""
