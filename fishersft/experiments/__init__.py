"""The paper's experiments on problems whose answer is known: arrays in, arrays out."""
