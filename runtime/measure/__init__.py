"""What commands measure with: prompts, sessions side by side, tables."""
