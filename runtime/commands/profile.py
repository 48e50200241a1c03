"""`shadowattn profile`: measures what each stage of the pipeline costs here, for plans and for people."""

import itertools
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from shadowattn.runtime.commands.pipeline_flags import define_npu_flags, npu_options, pipeline_options, pipelined_only
from shadowattn.runtime.commands.session_flags import bundle_argument, define_session_flags, open_session
from shadowattn.runtime.progress import Progress

if TYPE_CHECKING:  # loaded by run(): `--help` needs none of it
    from shadowattn.runtime.scheduling.profile import CpuTime, LatencyProfile

_USUAL_LENGTHS = (1024, 2048, 4096)


class Profile:
    """The subcommand; the contract is in shadowattn.runtime.cli."""

    name = "profile"
    summary = "measure the latency of every stage of the pipelined executor, for plans"
    usage = "BUNDLE [flags]"
    example = (
        "shadowattn profile smollm2.bundle\n"
        "shadowattn profile smollm2.bundle --kv_lens=2048,8192 --output=board.json\n"
        "shadowattn profile smollm2.bundle --npu='delegate:libvendor.so?backend=htp'"
    )

    def define_flags(self, flag_values: flags.FlagValues) -> None:
        lengths = "cache lengths to measure at; default: those of 1024,2048,4096 that fit"
        flags.DEFINE_list("kv_lens", None, lengths, flag_values=flag_values)
        flags.DEFINE_string("text", None, "a file to cut the prompt from", flag_values=flag_values)
        flags.DEFINE_integer("runs", 3, "runs of each launch size, in turn", lower_bound=1, flag_values=flag_values)
        output = "where to write it; default: BUNDLE.profile.json, where a session looks for it"
        flags.DEFINE_string("output", None, output, flag_values=flag_values)
        define_session_flags(flag_values)
        define_npu_flags(flag_values)

    def run(self, positional: list[str], flag_values: flags.FlagValues) -> int:
        from shadowattn.runtime.pipeline.profiles import default_path
        from shadowattn.runtime.scheduling.profile import write_profile

        bundle = bundle_argument(positional, f"shadowattn profile {self.usage}")
        pipelined_only(flag_values, "profile")
        path = Path(flag_values.output) if flag_values.output else default_path(bundle)
        if path.is_dir() or not path.absolute().parent.is_dir():
            raise flags.Error(f"--output: wanted a file in a folder that exists, got {str(path)!r}")
        profile = measure(bundle, flag_values, kv_lens(flag_values.kv_lens))
        print(text(profile))
        write_profile(profile, path)
        print(f"shadowattn: wrote {path}", file=sys.stderr)
        return 0


def kv_lens(words: list[str] | None) -> tuple[int, ...] | None:
    """Ascending. Raises flags.Error."""
    if words is None:
        return None
    if not words or not all(word.strip().isdecimal() and int(word) > 0 for word in words):
        raise flags.Error(f"--kv_lens: wanted positive numbers such as 1024,4096, got {','.join(words)!r}")
    return tuple(sorted({int(word) for word in words}))


def measure(bundle: Path, flag_values: flags.FlagValues, lengths: tuple[int, ...] | None) -> "LatencyProfile":
    """flag_values: with `text` and `runs`. lengths None: the usual ones that fit. Raises ValueError."""
    from shadowattn.models.bundle import read_manifest
    from shadowattn.runtime.measure.workload import from_text
    from shadowattn.runtime.pipeline.profiling import measure_profile

    manifest = read_manifest(bundle)
    chunk, most = manifest.prefill_chunks[-1], flag_values.max_length or manifest.max_length
    chosen = lengths or tuple(n for n in _USUAL_LENGTHS if chunk <= n <= most) or (most,)
    for length in chosen:
        if not chunk <= length <= most:
            raise ValueError(f"cache lengths must be from {chunk:,} (a chunk) to {most:,} (a session), got {length:,}")
    tokens = from_text(bundle, manifest, flag_values.text, chosen[-1:], 0).items[0].prompt
    options = pipeline_options(**npu_options(flag_values))
    # How many launch sizes there are at a length is known when its graphs are; of the bundle's, this is all of them.
    sizes = len({key.heads for key in manifest.estimate_keys() if key.chunk == chunk})
    total = len(chosen) * sizes * (flag_values.runs + 1)
    done = itertools.count(1)
    with (
        open_session(bundle, flag_values, executor="pipelined", pipeline=options) as session,
        Progress("profile", "runs") as progress,
    ):

        def advance(name: str) -> None:
            progress.update(next(done), total, f"launches of {name}")

        return measure_profile(session, tokens, chosen, options, flag_values.runs, advance)


def text(profile: "LatencyProfile") -> str:
    """Tables for people, in milliseconds."""
    from shadowattn.runtime.measure.table import format_table

    head = f"{profile.machine}, estimates: {profile.npu}; {profile.source}"
    if profile.simulated:
        head = f"SIMULATED: {head}"
    launches: dict[tuple[int, int], dict[int, float]] = defaultdict(dict)
    for launch in profile.launch:
        launches[launch.chunk, launch.seq_len][launch.heads] = 1e3 * launch.seconds
    sizes = sorted({launch.heads for launch in profile.launch})
    rows = [[chunk, length, *(of.get(size) for size in sizes)] for (chunk, length), of in sorted(launches.items())]
    parts = [head, "", format_table(["chunk", "bucket", *(f"launch of {size}, ms" for size in sizes)], rows)]
    appends = {(time.chunk, time.kv_len): 1e3 * time.seconds for time in profile.append}
    cpu = [
        (
            *(time.chunk, time.kv_len, 1e3 * time.select_seconds, 1e3 * time.attend_seconds),
            *(1e3 * time.group_seconds, 1e3 * time.handover_seconds, appends.get(_place(time))),
        )
        for time in profile.cpu
    ]
    header = [
        *("chunk", "kv_len", "select a head, ms", "attend a head, ms", "a group besides, ms"),
        *("hand over, a layer, ms", "append a layer, ms"),
    ]
    linear = ", ".join(f"{1e3 * time.seconds:.3g} ms for {time.chunk} rows" for time in profile.linear)
    return "\n".join([*parts, "", format_table(header, cpu), "", f"linear graphs, a layer: {linear or 'not known'}"])


def _place(time: "CpuTime") -> tuple[int, int]:
    return time.chunk, time.kv_len


COMMAND = Profile()
