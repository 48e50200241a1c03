"""The device side: runs a bundle. `from shadowattn.runtime import Session`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shadowattn.runtime.session.session import Session

__all__ = ["Session"]


def __getattr__(name: str) -> Any:
    """Loads LiteRT only when Session is asked for, so that `shadowattn --help` is quick."""
    if name == "Session":
        from shadowattn.runtime.session.session import Session

        return Session
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
