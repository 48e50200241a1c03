"""`shadowattn convert`: flags, nothing else. runtime/cli.py says what a subcommand is (duck-typed, not imported)."""

import json
import os
import sys
from pathlib import Path
from typing import Any

from absl import flags

from shadowattn.converter import hub
from shadowattn.converter.recipes import EFFORTS, parse_recipe
from shadowattn.converter.workspace import check_output
from shadowattn.models.bundle import MANIFEST, read_manifest
from shadowattn.models.grid_fit import check_multipliers
from shadowattn.models.progress import Progress

_EXPLAINED = (b"GGUF", b"FUGG", b"vers")  # big-endian, and a Git LFS pointer: the conversion says what they are
_PARTS = (".safetensors", ".bin", ".gguf", ".pth")


class _Convert:
    """The subcommand object that the entry point names."""

    name = "convert"
    extra = "converter"
    summary = "turn a model (Hugging Face directory or GGUF file) into a bundle"
    usage = "MODEL -o BUNDLE [flags]        (MODEL: a directory, a GGUF file, or org/name on the Hugging Face Hub)"
    example = (
        "shadowattn convert ./SmolLM2-135M-Instruct -o smollm2.bundle\n"
        "shadowattn convert HuggingFaceTB/SmolLM2-135M-Instruct -o smollm2.bundle\n"
        "shadowattn convert model.Q4_K_M.gguf -o model.bundle --weights=float32 --max_length=4096"
    )
    research = ("prefill_chunks", "keep_ratio", "calibration_text", "grid_multipliers")

    def define_flags(self, flag_values: flags.FlagValues) -> None:
        """Defines the flags of ConvertOptions."""
        flags.DEFINE_string("output", None, "the bundle folder to write", short_name="o", flag_values=flag_values)
        flags.DEFINE_string("model", None, "the model, instead of an argument", short_name="m", flag_values=flag_values)
        flags.DEFINE_string(
            "weights", "int8", "int8 (dynamic range, per output channel) or float32; with :rotate=off in the model's "
            "own basis (docs/converter.md)", flag_values=flag_values,
        )  # fmt: skip
        flags.DEFINE_enum(
            "effort", "default", EFFORTS, "quick: weights are rounded to the nearest, in half the time",
            flag_values=flag_values,
        )  # fmt: skip
        flags.DEFINE_integer(
            "max_length", None, "positions a session may hold (default: the model's own)", lower_bound=1,
            flag_values=flag_values,
        )  # fmt: skip
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
        words = [*([flag_values.model] if flag_values.model else []), *positional]
        if len(words) != 1:
            raise flags.Error(f"wanted one MODEL (a directory, a GGUF file or org/name), got {len(words)}: {words}")
        if not flag_values.output:
            raise flags.Error("wanted -o BUNDLE, the folder to write, got none")
        chunks = _lengths(flag_values.prefill_chunks)
        multipliers = _multipliers(flag_values.grid_multipliers)
        _check_keep_ratio(flag_values.keep_ratio)
        _check_weights(flag_values.weights)
        check_output(Path(flag_values.output), flag_values.overwrite)
        if flag_values.calibration_text and not os.access(flag_values.calibration_text, os.R_OK):
            raise ValueError(f"--calibration_text: {flag_values.calibration_text} cannot be read; check the path")
        model = _model(words[0])
        output = _convert(model, flag_values, chunks, multipliers)
        _report(output, flag_values.json)
        return 0


def _model(word: str) -> Path:
    """The model's path, which is looked at before torch is loaded, or downloaded. Raises ValueError."""
    if hub.is_hub_name(word):
        model = hub.fetch(word)
        print(f"{word}: {model}", file=sys.stderr)
        return model
    model = Path(word)
    if not os.path.lexists(model):
        raise ValueError(
            f"{model}: no such model; wanted a Hugging Face directory, a GGUF file or org/name on the Hub, "
            "check the path"
        )
    if (model / MANIFEST).is_file():
        raise ValueError(f"{model}: this is a bundle already; give the model that it was made of")
    if model.is_dir() and not _has_part_of_a_model(model):
        raise ValueError(f"{model}: config.json is missing; wanted a Hugging Face model directory with config.json")
    if model.is_file():
        with model.open("rb") as file:
            magic = file.read(4)
        if magic not in _EXPLAINED:
            raise ValueError(
                f"{model}: not a GGUF file (it starts with {magic!r}); wanted a GGUF file or a model directory"
            )
    return model


def _has_part_of_a_model(folder: Path) -> bool:
    """About what is there but is not enough the conversion has its own sentences."""
    return any(path.suffix in _PARTS or path.name == "config.json" for path in folder.iterdir())


def _convert(model: Path, flag_values: Any, chunks: tuple[int, ...] | None, multipliers: tuple[float, ...]) -> Path:
    with Progress("loading torch and the LiteRT converter", keep=True):
        from shadowattn.converter.pipeline import ConvertOptions, convert

    options = ConvertOptions(
        weights=flag_values.weights,
        effort=flag_values.effort,
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
        lengths = tuple(int(text) for text in texts)
        if min(lengths) < 1:
            raise ValueError
        return lengths
    except ValueError:
        raise flags.Error(f"wanted --prefill_chunks as numbers like 32,256, got {','.join(texts)!r}") from None


def _check_keep_ratio(ratio: float | None) -> None:
    if ratio is not None and not 0 < ratio <= 1:
        raise flags.Error(f"--keep_ratio: wanted a number in (0, 1], got {ratio}; 1.0 is dense attention")


def _check_weights(text: str) -> None:
    try:
        parse_recipe(text)
    except ValueError as error:
        raise flags.Error(f"--weights: {error}") from None


def _multipliers(text: str) -> tuple[float, ...]:
    if text == "none":
        return ()
    try:
        multipliers = tuple(float(number) for number in text.split(","))
    except ValueError:
        raise flags.Error(f"wanted --grid_multipliers as numbers like 0.5,1,2 or none, got {text!r}") from None
    try:
        check_multipliers(multipliers)
    except ValueError as error:
        raise flags.Error(f"--grid_multipliers: {error}") from None
    return multipliers


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
