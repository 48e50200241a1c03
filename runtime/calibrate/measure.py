"""What calibration asks of a session: rows observed, losses measured."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from shadowattn.models.observations import Observations
from shadowattn.runtime.calibrate.options import CalibrateOptions
from shadowattn.runtime.calibrate.steps import Arrays
from shadowattn.runtime.session.observing import ERRORS, HISTOGRAM, RANGES
from shadowattn.runtime.session.session import Session

Tokens = Sequence[int]
_ANY_THRESHOLD = 2.0**-8


class Meter:
    """One session, used for one measurement after the other."""

    def __init__(self, bundle: Path, options: CalibrateOptions, verbosity: int) -> None:
        """Raises ValueError."""
        self._session = Session.open(bundle, mode="shadow", verbosity=verbosity, **dict(options.session))
        model = self._session.manifest.model
        self.shape = (model.num_layers, model.num_heads)
        self.settings = self._session.settings

    def close(self) -> None:
        self._session.close()

    def observe(self, tokens: Tokens, *, errors: bool = True) -> Observations:
        """The rows of a text while they read everything, so that nothing depends on the plan's thresholds."""
        session = self._session
        session.configure(mode="shadow", threshold=_ANY_THRESHOLD)
        session.set_factors(np.zeros(self.shape, np.float32))
        session.observer.observe(HISTOGRAM, RANGES, *([ERRORS] if errors else []))
        try:
            session.reset()
            session.prefill(tokens)
            return read_observations(session)
        finally:
            session.observer.observe()

    def dense_loss(self, tokens: Tokens) -> float:
        """Mean of -log p of the tokens after the first."""
        self._session.configure(mode="dense")
        return self._loss(tokens)

    def loss(self, tokens: Tokens, threshold: float, factors: np.ndarray) -> float:
        """The same in mode shadow."""
        self._session.configure(mode="shadow", threshold=threshold)
        self._session.set_factors(factors)
        return self._loss(tokens)

    def loss_without(self, tokens: Tokens, ablated: np.ndarray) -> float:
        """The same with the heads of the mask [L,H] putting out zeros and the others reading everything."""
        self._session.configure(mode="shadow", threshold=_ANY_THRESHOLD)
        self._session.set_factors(np.where(ablated, np.inf, 0.0))
        return self._loss(tokens)

    def _loss(self, tokens: Tokens) -> float:
        return -float(self._session.score(tokens).mean(dtype=np.float64))


def read_observations(session: Session) -> Observations:
    """What the session observed since the last observe() or reset_stats()."""
    return Observations(
        **{field.name: session.observer.table(field.name) for field in dataclasses.fields(Observations)}
    )


def to_arrays(seen: Observations) -> Arrays:
    return {field.name: getattr(seen, field.name) for field in dataclasses.fields(seen)}


def from_arrays(arrays: Mapping[str, np.ndarray]) -> Observations:
    return Observations(**{field.name: arrays[field.name] for field in dataclasses.fields(Observations)})
