"""`shadowattn calibrate`: fits a bundle's thresholds and budgets to a text, and puts them into the bundle."""

import sys
from typing import TYPE_CHECKING, Any

from absl import flags

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
    from shadowattn.models.plan import Plan
    from shadowattn.runtime.calibrate.options import CalibrateOptions

_SHOWN = (0.02, 0.05, 0.1, 0.2)


class Calibrate:
    """The subcommand; the contract is in shadowattn.runtime.cli."""

    name = "calibrate"
    summary = "fit a bundle's thresholds and budgets to a text; stopped, it goes on where it was"
    usage = "BUNDLE [flags]"
    example = (
        "shadowattn calibrate smollm2.bundle\n"
        "shadowattn calibrate smollm2.bundle --text=a.txt,b.txt --effort=long\n"
        "shadowattn calibrate smollm2.bundle --paper_budgets --output=plan.bin"
    )
    research = ("paper_budgets", "budget_clamp", *RUN_RESEARCH)

    def define_flags(self, flag_values: flags.FlagValues) -> None:
        text = "files to fit to, the same share of each; default: Python's own documentation"
        flags.DEFINE_list("text", None, text, flag_values=flag_values)
        tokens = "tokens that are observed, in windows of 2048; default: what --effort says"
        flags.DEFINE_integer("tokens", None, tokens, flag_values=flag_values)
        efforts = ["quick", "default", "long"]
        flags.DEFINE_enum("effort", "default", efforts, "how much text is looked at", flag_values=flag_values)
        budgets = "also the budgets of mode shadow_paper: the loss without each head, which is long"
        flags.DEFINE_bool("paper_budgets", False, budgets, flag_values=flag_values)
        clamp = "the largest importance of a head in --paper_budgets"
        flags.DEFINE_float("budget_clamp", 1e-3, clamp, flag_values=flag_values)
        output = "write the plan to this file and leave the bundle as it is"
        flags.DEFINE_string("output", None, output, flag_values=flag_values)
        flags.DEFINE_bool("dry_run", False, "only say what would be written", flag_values=flag_values)
        define_run_flags(flag_values)

    def run(self, positional: list[str], flag_values: flags.FlagValues) -> int:
        bundle = bundle_argument(positional, flag_values, f"shadowattn calibrate {self.usage}")
        options = _options(flag_values)
        file = output_file("output", flag_values.output)
        check_bundle(bundle)
        check_files(flag_values, "text")
        from shadowattn.runtime.calibrate.bundle_plan import replace_plan, write_plan
        from shadowattn.runtime.calibrate.calibration import calibrate

        try:
            outcome = calibrate(bundle, options, flag_values.verbosity)
        except KeyboardInterrupt:
            print("\nshadowattn: the finished steps are kept; the same command goes on from there", file=sys.stderr)
            raise
        print(_text(outcome.plan, outcome.note))
        if flag_values.dry_run:
            return 0
        if file is not None:
            write_plan(outcome.plan, file)
        else:
            replace_plan(bundle, outcome.plan, outcome.note)
        outcome.steps.forget()
        print(f"shadowattn: wrote {file or bundle / 'plan.bin'}", file=sys.stderr)
        return 0


def _options(flag_values: flags.FlagValues) -> "CalibrateOptions":
    """Raises flags.Error."""
    from shadowattn.runtime.calibrate.options import CalibrateOptions

    try:
        return CalibrateOptions(
            texts=tuple(dict.fromkeys(word.strip() for word in flag_values.text or [])),
            tokens=flag_values.tokens,
            effort=flag_values.effort,
            paper_budgets=flag_values.paper_budgets,
            budget_clamp=flag_values.budget_clamp,
            session=run_options(flag_values),
        )
    except ValueError as error:
        raise flags.Error(str(error)) from None


def _text(plan: "Plan", note: dict[str, Any]) -> str:
    from shadowattn.runtime.measure.table import format_table

    window, factors = note["window"], plan.threshold_factors
    changes = ", ".join(f"{change:+.2f} % at {t}" for t, change in note["change_percent_at_threshold"].items())
    lines = [
        f"fitted to {note['text']}: {note['observed_windows']} windows of {window:,} tokens",
        f"threshold of keep_ratio auto: {plan.auto_threshold:.3g}, which keeps {note['auto_keep_at_window']:.3f} of a "
        f"text of {window:,} tokens",
        f"perplexity against dense on {note['held_out_windows']} other windows: {changes}",
        f"factors of the heads: {factors.min():.3g} (layer {int(factors.min(axis=1).argmin())}) to {factors.max():.3g}",
    ]
    lengths = [int(length) for length in plan.thresholds.lengths]
    rows = [(f"{ratio:g}", *(f"{plan.thresholds.at(ratio, n):.3g}" for n in lengths)) for ratio in _SHOWN]
    return "\n".join([*lines, "", format_table(("keep_ratio", *(f"at {n:,}" for n in lengths)), rows)])


COMMAND = Calibrate()
