"""`shadowattn convert`: flags, nothing else. runtime/cli.py says what a subcommand is (duck-typed, not imported)."""

import json
import os
from pathlib import Path
from typing import Any

from absl import flags

from shadowattn.models.bundle import read_manifest
from shadowattn.models.progress import Progress


class _Convert:
    """The subcommand object that the entry point names."""

    name = "convert"
    extra = "converter"
    summary = "turn a model (Hugging Face directory or GGUF file) into a bundle"
    usage = "MODEL -o BUNDLE [flags]"
    example = (
        "shadowattn convert ./SmolLM2-135M-Instruct -o smollm2.bundle\n"
        "shadowattn convert model.Q4_K_M.gguf -o model.bundle --weights=float32 --max_length=4096"
    )

    def define_flags(self, flag_values: flags.FlagValues) -> None:
        """Defines the flags of ConvertOptions."""
        flags.DEFINE_string("output", None, "the bundle folder to write", short_name="o", flag_values=flag_values)
        flags.DEFINE_enum(
            "weights", "int8", ["int8", "float32"], "int8: dynamic range, per output channel", flag_values=flag_values
        )
        flags.DEFINE_integer(
            "max_length", None, "positions a session may hold (default: the model's own)", flag_values=flag_values
        )
        flags.DEFINE_list(
            "prefill_chunks", None, "lengths of the prefill graphs (default: 32,256)", flag_values=flag_values
        )
        flags.DEFINE_float(
            "keep_ratio",
            None,
            "share of the cached tokens that sessions read by default; unset: auto",
            flag_values=flag_values,
        )
        flags.DEFINE_string(
            "calibration_text",
            None,
            "UTF-8 file whose first ~2,000 tokens the plan is fitted to (default: prose that comes with Python)",
            flag_values=flag_values,
        )
        flags.DEFINE_string(
            "grid_multipliers",
            "0.5,1,2",
            "scales of Q and of K in the estimate graphs' bucket grid, as multiples of their means; none: no grid",
            flag_values=flag_values,
        )
        flags.DEFINE_bool("overwrite", False, "replace the bundle if it exists", flag_values=flag_values)
        flags.DEFINE_bool(
            "allow_missing_tokenizer",
            False,
            "convert a model without tokenizer (token ids only)",
            flag_values=flag_values,
        )
        flags.DEFINE_bool("json", False, "print facts about the bundle as JSON", flag_values=flag_values)

    def run(self, positional: list[str], flag_values: flags.FlagValues) -> int:
        """Converts; returns 0. Raises absl.flags.Error for wrong usage, ValueError for what cannot be converted."""
        if len(positional) != 1:
            raise flags.Error(f"wanted one MODEL (a directory or a GGUF file), got {len(positional)}: {positional}")
        if not flag_values.output:
            raise flags.Error("wanted -o BUNDLE, the folder to write, got none")
        chunks = _lengths(flag_values.prefill_chunks)
        multipliers = _multipliers(flag_values.grid_multipliers)
        model = Path(positional[0])
        if not os.path.lexists(model):
            raise ValueError(f"{model}: no such model; wanted a Hugging Face directory or a GGUF file, check the path")
        output = _convert(model, flag_values, chunks, multipliers)
        _report(output, flag_values.json)
        return 0


def _convert(model: Path, flag_values: Any, chunks: tuple[int, ...] | None, multipliers: tuple[float, ...]) -> Path:
    with Progress("loading torch and the LiteRT converter", keep=True):
        from shadowattn.converter.pipeline import ConvertOptions, convert

    options = ConvertOptions(
        weights=flag_values.weights,
        max_length=flag_values.max_length,
        prefill_chunks=chunks,
        keep_ratio=flag_values.keep_ratio,
        calibration_text=flag_values.calibration_text,
        grid_multipliers=multipliers,
        allow_missing_tokenizer=flag_values.allow_missing_tokenizer,
        overwrite=flag_values.overwrite,
    )
    return convert(model, flag_values.output, options=options)


def _lengths(texts: list[str] | None) -> tuple[int, ...] | None:
    if not texts:
        return None
    try:
        return tuple(int(text) for text in texts)
    except ValueError:
        raise flags.Error(f"wanted --prefill_chunks as numbers like 32,256, got {','.join(texts)!r}") from None


def _multipliers(text: str) -> tuple[float, ...]:
    """Of --grid_multipliers; which numbers will do, the conversion says."""
    if text == "none":
        return ()
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        raise flags.Error(f"wanted --grid_multipliers as numbers like 0.5,1,2 or none, got {text!r}") from None


def _report(output: Path, as_json: bool) -> None:
    manifest = read_manifest(output)
    size = sum(info.bytes for info in manifest.files.values())
    if not as_json:
        print(f"{output}")
        return
    facts = {
        "bundle": str(output),
        "name": manifest.name,
        "licence": manifest.licence,
        "weights": manifest.weights,
        "bytes": size,
        "graphs": len(manifest.graphs),
        "estimates": len(manifest.estimates),
        "max_length": manifest.max_length,
        "prefill_chunks": list(manifest.prefill_chunks),
        "calibration": dict(manifest.calibration),
    }
    print(json.dumps(facts))


COMMAND = _Convert()
