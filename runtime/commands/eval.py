"""`shadowattn eval`: how far sparse attention is from dense, in tables, JSON and pictures."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from shadowattn.runtime.commands.output import print_json
from shadowattn.runtime.commands.pipeline_flags import output_file
from shadowattn.runtime.commands.session_flags import (
    RUN_RESEARCH,
    bundle_argument,
    check_bundle,
    check_files,
    define_run_flags,
    run_options,
)

if TYPE_CHECKING:  # loaded by run(): `--help` needs none of it
    from shadowattn.runtime.evaluate.options import EvalOptions


class Eval:
    """The subcommand; the contract is in shadowattn.runtime.cli."""

    name = "eval"
    summary = "compare modes and keep_ratios with dense attention: perplexity, needles, greedy continuations, heads"
    usage = "BUNDLE [flags]"
    example = (
        "shadowattn eval smollm2.bundle\n"
        "shadowattn eval smollm2.bundle --modes=shadow,shadow:uncompensated --keep_ratios=0.1,0.05 --text=a.txt,b.txt\n"
        "shadowattn eval smollm2.bundle --tasks=needle,greedy --text=book.txt --report=eval.json\n"
        "shadowattn eval smollm2.bundle --window=8192 --max_tokens=16384 --plots=pictures\n"
        "shadowattn eval smollm2.bundle --modes=dense --reference=./SmolLM2-135M-Instruct"
    )
    research = (
        *("stride", "skip_tokens", "needle_lengths", "needle_depths", "needles", "prompts", "prompt_tokens"),
        *("continue_tokens", "seed", *RUN_RESEARCH),
    )

    def define_flags(self, flag_values: flags.FlagValues) -> None:
        _define_choices(flag_values)
        _define_texts(flag_values)
        _define_tasks(flag_values)
        flags.DEFINE_integer("seed", 1, "of needles and random tokens", flag_values=flag_values)
        flags.DEFINE_bool("json", False, "print the report as one JSON object", flag_values=flag_values)
        report = "also write the report to this file, as JSON"
        flags.DEFINE_string("report", None, report, flag_values=flag_values)
        flags.DEFINE_string("plots", None, "a folder for pictures; needs matplotlib", flag_values=flag_values)
        define_run_flags(flag_values)

    def run(self, positional: list[str], flag_values: flags.FlagValues) -> int:
        bundle = bundle_argument(positional, flag_values, f"shadowattn eval {self.usage}")
        options = _options(flag_values)
        file = output_file("report", flag_values.report)
        _check_plots(flag_values.plots)
        check_bundle(bundle)
        check_files(flag_values, "text")
        from shadowattn.runtime.evaluate import plots
        from shadowattn.runtime.evaluate.evaluation import evaluate
        from shadowattn.runtime.evaluate.report import format_report

        draws = bool(flag_values.plots) and plots.can_plot()
        if flag_values.plots and not draws:  # now, not after an hour of work
            print(f"shadowattn: {plots.MISSING} (the tables come all the same)", file=sys.stderr)
        report = evaluate(bundle, options, flag_values.verbosity)
        if file is not None:
            file.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
            print(f"shadowattn: wrote {file}", file=sys.stderr)
        print_json(report) if flag_values.json else print(format_report(report))
        if draws:
            for path in plots.draw(report["rows"], Path(flag_values.plots)):
                print(f"shadowattn: wrote {path}", file=sys.stderr)
        return 1 if flag_values.plots and not draws else 0


def _define_choices(flag_values: flags.FlagValues) -> None:
    modes = (
        "modes, each with all keep_ratios, or with its own as in shadow_paper@0.2; MODE:uncompensated has no residual "
        "compensation; "
        "default: dense,int8,shadow"
    )
    flags.DEFINE_list("modes", None, modes, flag_values=flag_values)
    ratios = "shares in (0, 1], or auto: the bundle's default"
    flags.DEFINE_list("keep_ratios", ["auto", "0.1", "0.05", "0.02"], ratios, flag_values=flag_values)
    tasks = "some of perplexity, needle, greedy, heads"
    flags.DEFINE_list("tasks", ["perplexity"], tasks, flag_values=flag_values)


def _define_texts(flag_values: flags.FlagValues) -> None:
    text = "files to evaluate on; default: Python's own documentation"
    flags.DEFINE_list("text", None, text, flag_values=flag_values)
    reference = "the float model that the bundle came from: perplexity is compared with it instead of dense"
    flags.DEFINE_string("reference", None, f"{reference}; needs the extra converter", flag_values=flag_values)
    window = "tokens per window of perplexity; default: 2048, or what fits"
    flags.DEFINE_integer("window", None, window, flag_values=flag_values)
    stride = "distance of windows; default: the window, so that they do not overlap"
    flags.DEFINE_integer("stride", None, stride, flag_values=flag_values)
    flags.DEFINE_integer("max_tokens", 8192, "tokens of each text, in whole windows", flag_values=flag_values)
    flags.DEFINE_integer("skip_tokens", 0, "tokens left out at each text's start", flag_values=flag_values)


def _define_tasks(flag_values: flags.FlagValues) -> None:
    lengths = "needle: prompt lengths in tokens; default: those of 1000,2000,4000,8000 that fit"
    flags.DEFINE_list("needle_lengths", None, lengths, flag_values=flag_values)
    depths = "needle: where it is, 0 the start and 1 the end"
    flags.DEFINE_list("needle_depths", ["0.1", "0.3", "0.5", "0.7", "0.9"], depths, flag_values=flag_values)
    flags.DEFINE_integer("needles", 4, "needle: how many per length and depth", flag_values=flag_values)
    flags.DEFINE_integer("prompts", 20, "greedy: how many prompts", flag_values=flag_values)
    flags.DEFINE_integer("prompt_tokens", 2000, "greedy: tokens per prompt", flag_values=flag_values)
    flags.DEFINE_integer("continue_tokens", 64, "greedy: tokens to continue with", flag_values=flag_values)


def _options(flag_values: flags.FlagValues) -> "EvalOptions":
    """Raises flags.Error."""
    from shadowattn.runtime.evaluate.options import EvalOptions
    from shadowattn.runtime.session.modes import AUTO

    optional: dict[str, Any] = {}
    if flag_values.modes is not None:
        optional["modes"] = _words(flag_values.modes)
    if flag_values.needle_lengths is not None:
        optional["needle_lengths"] = _numbers("needle_lengths", flag_values, int)
    names = (
        "reference",
        "window",
        "stride",
        "max_tokens",
        "skip_tokens",
        "needles",
        "prompts",
        "prompt_tokens",
        "continue_tokens",
    )
    try:
        return EvalOptions(
            keep_ratios=_numbers("keep_ratios", flag_values, lambda word: word if word == AUTO else float(word)),
            tasks=_words(flag_values.tasks),
            texts=_words(flag_values.text or []),
            needle_depths=_numbers("needle_depths", flag_values, float),
            seed=flag_values.seed,
            session=run_options(flag_values),
            **{name: flag_values[name].value for name in names},
            **optional,
        )
    except ValueError as error:
        raise flags.Error(str(error)) from None


def _words(values: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value.strip() for value in values))


def _numbers(name: str, flag_values: flags.FlagValues, read: Callable[[str], Any]) -> tuple[Any, ...]:
    values = flag_values[name].value
    try:
        return tuple(map(read, _words(values)))
    except ValueError:
        raise flags.Error(f"--{name}: wanted numbers with commas between, got {','.join(values)!r}") from None


def _check_plots(plots: str | None) -> None:
    """Before work begins. Raises flags.Error."""
    if plots and Path(plots).exists() and not Path(plots).is_dir():
        raise flags.Error(f"--plots: wanted a folder, got the file {plots!r}")


COMMAND = Eval()
