"""The process that runs one system on one prompt, once: `python -m peers.worker MODULE REQUEST`.

It runs in the system's own virtual environment, so that nothing here imports more than the standard library. MODULE
has open_model(Request) -> Model and is imported when the process is held to its cores and instruction set; REQUEST is a
Request as JSON. The answer goes into a file, because libraries print what they like.
"""

import dataclasses
import importlib
import importlib.metadata
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import isa_limit

WARM_UP = 320  # tokens, or half of a shorter prompt


@dataclasses.dataclass(frozen=True)
class Request:
    """variant: which form of the system. models: the folder of peers.models; bundle: our own model. tokens: a JSON file
    with the prompt's token ids. decode_tokens: 0 asks for the first token only, and nothing is timed."""

    variant: str
    models: str
    bundle: str
    tokens: str
    decode_tokens: int
    num_threads: int
    isa: str
    cores: tuple[int, ...]
    result: str

    @property
    def folder(self) -> Path:
        return Path(self.models)


@dataclasses.dataclass(frozen=True)
class Run:
    """first_token: greedy, None where a library does not tell. ttft_s: prompt in, first token known."""

    first_token: int | None
    ttft_s: float
    decode_tok_s: float | None


class Model(Protocol):
    """A loaded model."""

    def run(self, ids: Sequence[int], decode_tokens: int) -> Run:
        """The prompt from an empty cache, then so many greedy tokens after the first."""
        ...

    def facts(self) -> dict[str, Any]:
        """After the run: what the library says of itself."""
        ...


class Steps(Protocol):
    """A model that is asked step by step; both return the likeliest next token."""

    def prefill(self, ids: Sequence[int]) -> int: ...

    def decode(self, token: int) -> int: ...


def run_steps(model: Steps, ids: Sequence[int], decode_tokens: int) -> Run:
    """Times a model that does not time itself."""
    begin = time.perf_counter()
    first = token = model.prefill(ids)
    known = time.perf_counter()
    for _ in range(decode_tokens):
        token = model.decode(token)
    seconds = time.perf_counter() - known
    return Run(first, known - begin, decode_tokens / seconds if decode_tokens else None)


def versions(*packages: str) -> str:
    """As a table shows them."""
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)


def peak_rss_bytes() -> int:
    """Bytes that this process held at most. VmHWM, because ru_maxrss may count the parent's."""
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status: wanted a line VmHWM, got none; peak memory is known on Linux only")


def answer(module: str, request: Request) -> dict[str, Any]:
    """Loads, warms up, runs. load_s: the model's, without the library's import."""
    limits = isa_limit.restrict(request.num_threads, request.isa, request.cores)
    ids = json.loads(Path(request.tokens).read_text("utf-8"))
    system = importlib.import_module(module)
    begin = time.perf_counter()
    model: Model = system.open_model(request, len(ids))
    load_s = time.perf_counter() - begin
    if request.decode_tokens:
        model.run(ids[: min(WARM_UP, max(1, len(ids) // 2))], 1)
    run = model.run(ids, request.decode_tokens)
    found = {"first_token": run.first_token, "limits": limits, "facts": model.facts()}
    if request.decode_tokens:
        found |= dataclasses.asdict(run) | {"load_s": load_s, "peak_rss_bytes": peak_rss_bytes()}
    return found


def main() -> None:
    module, text = sys.argv[1:]
    request = Request(**json.loads(text))
    Path(request.result).write_text(json.dumps(answer(module, request)), "utf-8")


if __name__ == "__main__":
    main()
