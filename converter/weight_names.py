"""Names of the weights that hold the vocabulary, as Hugging Face has them, and one of our own."""

EMBEDDING = "model.embed_tokens.weight"
LM_HEAD = "lm_head.weight"

# [D,D], float32: from the basis in which a shared table is stored to where the last norm's weights belong, and back.
HEAD_ROTATION = "head_rotation.weight"
