"""`shadowattn bench`: TTFT and TPOT over prompt lengths, dense against sparse."""

import collections
import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from shadowattn.models.progress import Progress, waiting
from shadowattn.runtime.commands.output import print_json
from shadowattn.runtime.commands.session_flags import (
    SESSION_RESEARCH,
    bundle_argument,
    check_bundle,
    check_files,
    define_session_flags,
    positive_numbers,
    session_options,
)

if TYPE_CHECKING:  # loaded by run(): `--help` needs none of it
    from shadowattn.models.bundle import Manifest
    from shadowattn.runtime.measure.comparison import Run, SessionProcess
    from shadowattn.runtime.measure.workload import Item, Workload

_SETTINGS = ("dense", "sparse")
_TIME_HEADER = (
    "prompt tokens",
    *("TTFT dense s", "TTFT sparse s", "dense/sparse"),
    *("TPOT dense ms", "TPOT sparse ms", "dense/sparse"),
)
_ANSWER_HEADER = (
    "prompt tokens",
    *("mean keep_ratio", "KL mean nats", "KL max nats", "same top token %"),
    *("peak RSS dense MiB", "peak RSS sparse MiB"),
)


class Bench:
    """The subcommand; the contract is in shadowattn.runtime.cli."""

    name = "bench"
    summary = "measure TTFT and TPOT over prompt lengths, dense against sparse, and how far the answers differ"
    usage = "BUNDLE [flags]"
    example = (
        "shadowattn bench smollm2.bundle\n"
        "shadowattn bench smollm2.bundle --prompt_lengths=1024,4096 --runs=9 --keep_ratio=0.1\n"
        "shadowattn bench smollm2.bundle --chat --prompt_file=question.txt\n"
        "shadowattn bench smollm2.bundle --text=report.txt --json > bench.json\n"
        "shadowattn bench smollm2.bundle --executor=pipelined --prompt_lengths=2048"
    )
    research = SESSION_RESEARCH

    def define_flags(self, flag_values: flags.FlagValues) -> None:
        lengths = "prompt lengths in tokens; default: those of 512,1024,2048,4096 that fit"
        flags.DEFINE_list("prompt_lengths", None, lengths, flag_values=flag_values)
        flags.DEFINE_string("text", None, "a file to cut the prompts from", flag_values=flag_values)
        flags.DEFINE_string("prompt_file", None, "measure this one prompt instead", flag_values=flag_values)
        flags.DEFINE_bool("chat", False, "put --prompt_file into the chat template", flag_values=flag_values)
        flags.DEFINE_integer("runs", 5, "runs per length and setting", lower_bound=1, flag_values=flag_values)
        flags.DEFINE_integer("decode_tokens", 32, "decode steps per run", lower_bound=1, flag_values=flag_values)
        flags.DEFINE_bool("json", False, "print one JSON object", flag_values=flag_values)
        define_session_flags(flag_values)

    def run(self, positional: list[str], flag_values: flags.FlagValues) -> int:
        from shadowattn.models.bundle import read_manifest

        bundle = bundle_argument(positional, flag_values, f"shadowattn bench {self.usage}")
        lengths = _check_usage(flag_values)
        check_bundle(bundle)
        check_files(flag_values, "text", "prompt_file")
        manifest = read_manifest(bundle)
        workload = _workload(bundle, manifest, flag_values, lengths)
        with contextlib.ExitStack() as stack:
            processes = _start(bundle, flag_values, stack)
            report = _report(bundle, manifest, flag_values, processes["sparse"].facts) | {"text": workload.source}
            measurement = _Measurement(processes, flag_values.decode_tokens, manifest.prefill_chunks[-1])
            report["rows"] = measurement.rows(workload, flag_values.runs)
            report["custom_ops"] = {name: _custom_ops(process) for name, process in processes.items()}
        print_json(report) if flag_values.json else print(_text(report))
        return 0


def _check_usage(flag_values: flags.FlagValues) -> tuple[int, ...] | None:
    """The prompt lengths asked for. Raises flags.Error."""
    if flag_values.mode == "dense":
        raise flags.Error("bench compares dense with sparse by itself; wanted a sparse --mode, got dense")
    if flag_values.prompt_file is None and flag_values.chat:
        raise flags.Error("--chat needs --prompt_file")
    if flag_values.prompt_file is not None and (flag_values.text or flag_values.prompt_lengths is not None):
        raise flags.Error("--prompt_file is one prompt: it goes with neither --text nor --prompt_lengths")
    return positive_numbers("prompt_lengths", flag_values.prompt_lengths, "512,4096")


def _workload(
    bundle: Path, manifest: "Manifest", flag_values: flags.FlagValues, asked: tuple[int, ...] | None
) -> "Workload":
    from shadowattn.runtime.measure import workload

    most = flag_values.max_length or manifest.max_length
    steps = flag_values.decode_tokens
    if flag_values.prompt_file is not None:
        return workload.from_prompt(bundle, manifest, Path(flag_values.prompt_file), flag_values.chat, most, steps)
    lengths = workload.fitting_lengths(asked, steps, most)
    return workload.from_text(bundle, manifest, flag_values.text, lengths, steps)


def _start(bundle: Path, flag_values: flags.FlagValues, stack: contextlib.ExitStack) -> "dict[str, SessionProcess]":
    from shadowattn.runtime.measure.comparison import SessionProcess

    options = session_options(flag_values)
    changes: dict[str, dict[str, Any]] = {"dense": {"mode": "dense", "keep_ratio": None}, "sparse": {}}
    processes = {}
    for name in _SETTINGS:
        with waiting(f"opening {bundle} ({name})"):
            processes[name] = stack.enter_context(SessionProcess(name, bundle, options | changes[name]))
    return processes


class _Measurement:
    """Runs the settings interleaved and shows how far it is."""

    def __init__(self, processes: "dict[str, SessionProcess]", decode_tokens: int, largest_chunk: int) -> None:
        self._processes = processes
        self._decode_tokens = decode_tokens
        self._largest_chunk = largest_chunk
        self._progress = Progress("bench", "prompt tokens")
        self._done = 0
        self._total = 0

    def rows(self, workload: "Workload", runs: int) -> list[dict[str, Any]]:
        """A row per prompt. Short runs that prepare the same graphs go before, and are not counted."""
        warm_ups = [self._warm_up(item) for item in workload.items]
        counted = sum(len(item.prompt) for item in workload.items)
        self._total = len(_SETTINGS) * (counted * runs + sum(len(item.prompt) for item in warm_ups))
        with self._progress:
            for item in warm_ups:
                for name in _SETTINGS:
                    self._run(name, item, "warming up")
            return [self._row(item, runs) for item in workload.items]

    def _warm_up(self, item: "Item") -> "Item":
        """The item with fewer whole chunks: it ends in the same smaller ones."""
        length = len(item.prompt) % self._largest_chunk + self._largest_chunk
        return dataclasses.replace(item, prompt=item.prompt[:length])

    def _row(self, item: "Item", runs: int) -> dict[str, Any]:
        taken: dict[str, list[Run]] = {name: [] for name in _SETTINGS}
        for turn, name in _interleaved(runs):
            note = f"{len(item.prompt):,} tokens, {name}, run {turn + 1} of {runs}"
            run = self._run(name, item, note, want_logits=turn == 0)
            taken[name].append(run)
            if item.continuation is None:  # the first is dense: from now on all decode its answer
                item = dataclasses.replace(item, continuation=run.decoded)
        return _row(len(item.prompt), taken)

    def _run(self, name: str, item: "Item", note: str, want_logits: bool = False) -> "Run":
        before = self._done

        def on_progress(part: int, whole: int) -> None:
            self._progress.update(before + part, self._total, note)

        continuation = self._decode_tokens if item.continuation is None else item.continuation
        run = self._processes[name].run(item.prompt, continuation, want_logits=want_logits, on_progress=on_progress)
        self._done += len(item.prompt)
        return run


def _interleaved(runs: int) -> Iterator[tuple[int, str]]:
    """Which setting runs when: interleaved, and the first changes, so that a drift of the machine falls on both."""
    for turn in range(runs):
        for name in _SETTINGS if turn % 2 == 0 else reversed(_SETTINGS):
            yield turn, name


def _row(length: int, taken: "dict[str, list[Run]]") -> dict[str, Any]:
    from shadowattn.runtime.measure.comparison import difference, medians

    row: dict[str, Any] = {"prompt_tokens": length}
    for name, runs in taken.items():
        row[name] = medians(runs)
    row["ttft_dense_over_sparse"] = row["dense"]["ttft_s"] / row["sparse"]["ttft_s"]
    row["tpot_dense_over_sparse"] = row["dense"]["tpot_ms"] / row["sparse"]["tpot_ms"]
    dense, sparse = (taken[name][0].logits for name in _SETTINGS)
    assert dense is not None
    assert sparse is not None
    return row | dataclasses.asdict(difference(dense, sparse))


def _custom_ops(process: "SessionProcess") -> list[dict[str, Any]]:
    """Who ran the custom ops: a count per signature, op and runner."""
    counts = collections.Counter(
        (signature, op, runner) for signature, op, runner in process.node_assignments() if op.startswith("Shadow")
    )
    keys = ("signature", "op", "runner")
    return [dict(zip(keys, node, strict=True)) | {"nodes": count} for node, count in sorted(counts.items())]


# --- for people ---


def _report(bundle: Path, manifest: "Manifest", flag_values: flags.FlagValues, facts: dict[str, Any]) -> dict[str, Any]:
    return {
        "bundle": str(bundle),
        "model": manifest.name,
        "weights": manifest.weights,
        "mode": flag_values.mode or "shadow",
        "keep_ratio": flag_values.keep_ratio or manifest.keep_ratio or "auto",
        "executor": flag_values.executor,
        "cache_type": flag_values.cache_type,
        "isa": facts["isa"],
        "num_threads": facts["num_threads"],
        "runs": flag_values.runs,
        "decode_tokens": flag_values.decode_tokens,
    }


def _text(report: dict[str, Any]) -> str:
    from shadowattn.runtime.measure.table import format_table

    head = (
        f"{report['model']} ({report['weights']}), {report['executor']} executor, ISA {report['isa']}, "
        f"{report['num_threads']} threads, cache {report['cache_type']}\n"
        f"dense against {report['mode']} at keep_ratio {report['keep_ratio']}; medians of {report['runs']} runs "
        f"interleaved; text: {report['text']}"
    )
    times, answers = [], []
    for row in report["rows"]:
        dense, sparse = row["dense"], row["sparse"]
        time = [dense["ttft_s"], sparse["ttft_s"], row["ttft_dense_over_sparse"]]
        time += [dense["tpot_ms"], sparse["tpot_ms"], row["tpot_dense_over_sparse"]]
        answer = [sparse["mean_keep_ratio"], row["kl_mean"], row["kl_max"], 100 * row["same_top_token"]]
        answer += [dense["peak_rss_bytes"] / 2**20, sparse["peak_rss_bytes"] / 2**20]
        times.append([row["prompt_tokens"], *time])
        answers.append([row["prompt_tokens"], *answer])
    notes = f"KL(dense || sparse) of the next token over {report['rows'][0]['positions']} positions per prompt length."
    tables = [format_table(_TIME_HEADER, times), "", format_table(_ANSWER_HEADER, answers)]
    return "\n".join([head, "", *tables, "", notes, *_who_ran(report["custom_ops"])])


def _who_ran(custom_ops: dict[str, list[dict[str, Any]]]) -> list[str]:
    """A line per setting: how many custom op nodes there were, and who ran them."""
    lines = []
    for name, entries in custom_ops.items():
        runners: collections.Counter[str] = collections.Counter()
        for entry in entries:
            runners[entry["runner"]] += entry["nodes"]
        who = ", ".join(f"{count:,} by {runner}" for runner, count in runners.items())
        if set(runners) == {"shadow"}:
            who = f"all {runners['shadow']:,} by the delegate, nothing fell back"
        signatures = ", ".join(dict.fromkeys(entry["signature"] for entry in entries))
        lines.append(f"Custom op nodes ({name}): {who} ({signatures}).")
    return lines


COMMAND = Bench()
