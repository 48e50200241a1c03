"""Converter: a Hugging Face directory or a GGUF file -> a bundle (the only part of shadowattn that needs torch)."""

from typing import Any

__all__ = ["ConvertOptions", "convert"]


def __getattr__(name: str) -> Any:
    """Loads the pipeline on first use, so that `shadowattn convert --help` does not wait for torch."""
    if name in __all__:
        from shadowattn.converter import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
