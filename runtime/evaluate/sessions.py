"""Sessions for an evaluation: the same bundle and arguments, one per variant. They share the weights."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

from shadowattn.runtime.evaluate.options import DENSE, EvalOptions, Variant
from shadowattn.runtime.session.session import Session
from shadowattn.runtime.session.stats import SessionStats

Advance = Callable[[int, str], None]  # so many units more are done; what is being done


@dataclasses.dataclass(frozen=True)
class Opener:
    """Opens the bundle for a variant."""

    bundle: Path
    options: EvalOptions
    verbosity: int = 0

    def open(self, variant: Variant) -> Session:
        """Raises ValueError that names the variant, if the bundle or the delegate cannot do it."""
        arguments = dict(self.options.session) | variant.session_options()
        try:
            return Session.open(self.bundle, **arguments, verbosity=self.verbosity)
        except ValueError as error:
            raise ValueError(f"{variant.name}: {error}") from None

    def each(self, variants: tuple[Variant, ...]) -> Iterator[tuple[Variant, Session]]:
        """One after another, each closed before the next; a dense one stays open so that weights are loaded once."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.open(DENSE))
            for variant in variants:
                with self.open(variant) as session:
                    yield variant, session


def variant_columns(variant: Variant, stats: SessionStats | None) -> dict[str, object]:
    """The columns that every row starts with; mean_keep_ratio is what was achieved, None without a session."""
    achieved = None if stats is None else stats.mean_keep_ratio
    return {"mode": variant.label, "keep_ratio": variant.keep_ratio, "mean_keep_ratio": achieved}
