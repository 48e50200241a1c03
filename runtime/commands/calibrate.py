"""`shadowattn calibrate`: fits a bundle's thresholds and budgets to a text, and puts them into the bundle."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from shadowattn.runtime.commands.session_flags import bundle_argument, define_run_flags, run_options

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
        from shadowattn.runtime.calibrate.bundle_plan import replace_plan, write_plan
        from shadowattn.runtime.calibrate.calibration import calibrate

        bundle = bundle_argument(positional, f"shadowattn calibrate {self.usage}")
        options = _options(flag_values)
        _check_output(flag_values.output)
        outcome = calibrate(bundle, options, flag_values.verbosity)
        print(_text(outcome.plan, outcome.note))
        if flag_values.dry_run:
            return 0
        if flag_values.output:
            write_plan(outcome.plan, Path(flag_values.output))
        else:
            replace_plan(bundle, outcome.plan, outcome.note)
        outcome.steps.forget()
        print(f"shadowattn: wrote {flag_values.output or bundle / 'plan.bin'}", file=sys.stderr)
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


def _check_output(output: str | None) -> None:
    """Before work begins. Raises flags.Error."""
    if output and (Path(output).is_dir() or not Path(output).absolute().parent.is_dir()):
        raise flags.Error(f"--output: wanted a file in a folder that exists, got {output!r}")


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
