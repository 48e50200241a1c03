"""What a model, a plan and a bundle are: the vocabulary that converter and runtime share (stdlib and numpy only)."""
