"""Long prompts, fast: a language model with dynamic sparse attention, run from a bundle folder.

    import shadowattn

    with shadowattn.open("model.bundle") as session:
        for piece in session.chat([{"role": "user", "content": "Why is the sky blue?"}]):
            print(piece, end="", flush=True)

docs/python.md shows the rest. A bundle is made by `shadowattn convert`. Importing this module loads neither LiteRT nor
NumPy: the first use of open() or Session does.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shadowattn.runtime.session.cached_tokens import CancelledError
    from shadowattn.runtime.session.session import Session

    open = Session.open

__all__ = ["CancelledError", "Session", "__version__", "open"]
__version__ = "0.2.0"  # pyproject.toml reads it here


def __getattr__(name: str) -> Any:
    if name == "open":
        return __getattr__("Session").open
    if name == "Session":
        from shadowattn.runtime.session.session import Session

        return Session
    if name == "CancelledError":
        from shadowattn.runtime.session.cached_tokens import CancelledError

        return CancelledError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
