"""`shadowattn profile`: measures what each stage of the pipeline costs here, for schedules and for people."""

import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from shadowattn.models.progress import Progress
from shadowattn.runtime.commands.pipeline_flags import (
    PIPELINE_RESEARCH,
    define_npu_flags,
    pipeline_bundle,
    pipeline_options,
)
from shadowattn.runtime.commands.session_flags import (
    SESSION_RESEARCH,
    define_session_flags,
    open_session,
    positive_numbers,
)

if TYPE_CHECKING:  # loaded by run(): `--help` needs none of it
    from shadowattn.runtime.pipeline.profile import LatencyProfile

_USUAL_LENGTHS = (1024, 2048, 4096)


class Profile:
    """The subcommand; the contract is in shadowattn.runtime.cli."""

    name = "profile"
    summary = "measure the latency of every stage of the pipelined executor, for its schedules"
    usage = "BUNDLE [flags]"
    example = (
        "shadowattn profile smollm2.bundle\n"
        "shadowattn profile smollm2.bundle --kv_lens=2048,8192 --output=board.json\n"
        "shadowattn profile smollm2.bundle --npu='delegate:libvendor.so?backend=htp'"
    )
    research = (*SESSION_RESEARCH, *PIPELINE_RESEARCH)

    def define_flags(self, flag_values: flags.FlagValues) -> None:
        lengths = "cache lengths to measure at; default: those of 1024,2048,4096 that fit"
        flags.DEFINE_list("kv_lens", None, lengths, flag_values=flag_values)
        flags.DEFINE_string("text", None, "a file to cut the prompt from", flag_values=flag_values)
        flags.DEFINE_integer("runs", 3, "runs of each launch size, interleaved", lower_bound=1, flag_values=flag_values)
        output = "where to write it; default: BUNDLE.profile.json, where a session looks for it"
        flags.DEFINE_string("output", None, output, flag_values=flag_values)
        flags.DEFINE_bool("json", False, "print the profile as one JSON object", flag_values=flag_values)
        define_session_flags(flag_values)
        define_npu_flags(flag_values)

    def run(self, positional: list[str], flag_values: flags.FlagValues) -> int:
        lengths = positive_numbers("kv_lens", flag_values.kv_lens, "1024,4096")
        bundle = pipeline_bundle(self.name, self.usage, positional, flag_values)
        from shadowattn.runtime.pipeline.profile import default_path

        path = Path(flag_values.output) if flag_values.output else default_path(bundle)
        profile = measure(bundle, flag_values, lengths)
        print(profile.to_json().rstrip() if flag_values.json else _text(profile))
        path.write_text(profile.to_json(), "utf-8")
        print(f"shadowattn: wrote {path}", file=sys.stderr)
        return 0


def measure(bundle: Path, flag_values: flags.FlagValues, lengths: tuple[int, ...] | None) -> "LatencyProfile":
    """flag_values: with `text` and `runs`. lengths None: the usual ones that fit. Raises ValueError."""
    from shadowattn.models.bundle import read_manifest

    manifest = read_manifest(bundle)
    chunk, most = manifest.prefill_chunks[-1], flag_values.max_length or manifest.max_length
    chosen = lengths or tuple(n for n in _USUAL_LENGTHS if chunk <= n <= most) or (most,)
    for length in chosen:
        if not chunk <= length <= most:
            raise ValueError(f"cache lengths must be from {chunk:,} (a chunk) to {most:,} (a session), got {length:,}")
    from shadowattn.runtime.measure.workload import from_text
    from shadowattn.runtime.pipeline.measure import measure_profile

    tokens = from_text(bundle, manifest, flag_values.text, chosen[-1:], 0).items[0].prompt
    options = pipeline_options(flag_values)
    # How many launch sizes there are at a length is known when its graphs are; of the bundle's, this is all of them.
    sizes = len({key.heads for key in manifest.estimate_keys() if key.chunk == chunk})
    total, done = len(chosen) * sizes * (flag_values.runs + 1), itertools.count(1)
    with (
        open_session(bundle, flag_values, executor="pipelined", pipeline=options) as session,
        Progress("profile", "runs") as progress,
    ):

        def advance(heads: str) -> None:
            progress.update(next(done), total, f"launches of {heads} heads")

        return measure_profile(session, tokens, chosen, options, flag_values.runs, advance)


def _text(profile: "LatencyProfile") -> str:
    """For people, in milliseconds."""
    from shadowattn.runtime.measure.table import format_table

    header = ["kv_len", "bucket", "heads a group", "estimate ms", "select and attend ms", "overhead ms"]
    rows = []
    for time in profile.launch:
        seconds = (time.estimate_seconds, time.attend_seconds, time.overhead_seconds)
        rows.append([time.kv_len, time.seq_len, time.heads, *(1e3 * one for one in seconds)])
    head = f"{profile.machine}, estimates: {profile.npu}; {profile.source}; chunks of {profile.chunk} rows"
    return f"{head}\n\n{format_table(header, rows)}"


COMMAND = Profile()
