"""Heads: the layers that predict per anchor; assigning, losses and decoding live elsewhere."""
