"""This project's runtime. VARIANT: a mode as in `shadowattn eval --modes`, or empty for a session's defaults."""

from collections.abc import Sequence
from typing import Any

from peers import worker

from shadowattn.runtime.evaluate.options import EvalOptions
from shadowattn.runtime.litert.delegate import ShadowLibrary, library_path
from shadowattn.runtime.session.session import Session


class SessionModel:
    """Loading packs the weights that the prompt needs."""

    def __init__(self, request: worker.Request, length: int) -> None:
        options = session_options(request.variant)
        self._session = Session.open(request.bundle, num_threads=request.num_threads, isa=request.isa, **options)
        self._session.prepare(length)

    def run(self, ids: Sequence[int], decode_tokens: int) -> worker.Run:
        self._session.reset_stats()
        return worker.run_steps(self, ids, decode_tokens)

    def prefill(self, ids: Sequence[int]) -> int:
        self._session.reset()
        return int(self._session.prefill(ids).argmax())

    def decode(self, token: int) -> int:
        return int(self._session.decode(token).argmax())

    def facts(self) -> dict[str, Any]:
        stats = self._session.stats()
        manifest = self._session.manifest
        return {
            "version": f"{_delegate_version()}, {worker.versions('ai-edge-litert')}",
            "isa": self._session.isa,
            "model": f"{manifest.name} ({manifest.weights})",
            "mean_keep_ratio": stats.mean_keep_ratio,
            "cache_bytes": stats.cache_bytes,
        }


def session_options(variant: str) -> dict[str, Any]:
    """What Session.open() is told."""
    if not variant:
        return {}
    return EvalOptions(modes=(variant,), keep_ratios=("auto",)).variants()[-1].session_options()  # dense is the first


def _delegate_version() -> str:
    """Name, number and compiler, without the list of instruction sets."""
    return ShadowLibrary(library_path()).build_info.split(", isa")[0]


def open_model(request: worker.Request, length: int) -> worker.Model:
    return SessionModel(request, length)
