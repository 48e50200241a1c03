"""How far sparse attention is from dense: perplexity, KL divergence, needles, continuations (`shadowattn eval`)."""
