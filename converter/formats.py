"""Which format a model on disk has."""

from pathlib import Path

from shadowattn.converter.checkpoint import Checkpoint
from shadowattn.converter.gguf_checkpoint import GgufCheckpoint
from shadowattn.converter.hf_checkpoint import HfCheckpoint
from shadowattn.converter.model_files import refuse_dangling


def open_checkpoint(path: Path) -> Checkpoint:
    """A Hugging Face directory or a GGUF file. Raises ValueError that says what was wanted and found."""
    if path.is_dir():
        return HfCheckpoint(path)
    if path.is_file():
        return GgufCheckpoint(path)
    refuse_dangling(path)
    raise ValueError(f"{path}: no such model; wanted a Hugging Face directory or a GGUF file, check the path")
