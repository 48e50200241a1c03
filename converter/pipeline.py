"""The conversion as a list of steps: read, decide, check, calibrate, assemble, write, verify, publish."""

import dataclasses
import functools
import importlib.metadata
import math
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from shadowattn.converter.assemble import assemble
from shadowattn.converter.calibrate import Calibration, GridChoice, calibrate
from shadowattn.converter.calibration_text import CalibrationText, calibration_text
from shadowattn.converter.checkpoint import Checkpoint, TokenizerFiles, check_weights
from shadowattn.converter.estimate import write_estimates
from shadowattn.converter.export import convert_pieces
from shadowattn.converter.formats import open_checkpoint
from shadowattn.converter.recipes import EFFORTS, Recipe, StoredWeight, parse_recipe
from shadowattn.converter.resources import check_resources, model_file_bytes
from shadowattn.converter.rotation import down_block, random_rotation
from shadowattn.converter.rounded_layers import LayerRounder
from shadowattn.converter.split import SCORE_ROWS, plan_graphs, prefill_ladder, sequence_buckets, split_chunks
from shadowattn.converter.tokens import KnownTokens, known_tokens, readable_tokenizer
from shadowattn.converter.verify import Verification, verify_model
from shadowattn.converter.workspace import check_output, written_aside
from shadowattn.models import bundle, estimate_graphs
from shadowattn.models import plan as plan_file
from shadowattn.models.estimate_graphs import EstimateKey, keys_of_bundle
from shadowattn.models.families import read_config
from shadowattn.models.grid_fit import PAPER_MULTIPLIERS, check_multipliers
from shadowattn.models.plan import Plan
from shadowattn.models.progress import Progress
from shadowattn.models.spec import ModelSpec


@dataclasses.dataclass(frozen=True)
class ConvertOptions:
    """What may be chosen about a bundle. weights: a recipe (converter/recipes.py); max_length None: the model's own;
    prefill_chunks None: the default ladder; calibration_text None: prose that every Python has; grid_multipliers ():
    no bucket grid; effort: one of EFFORTS, quick rounds weights to the nearest."""

    weights: str = "int8"
    max_length: int | None = None
    prefill_chunks: tuple[int, ...] | None = None
    keep_ratio: float | None = None
    calibration_text: str | Path | None = None
    grid_multipliers: tuple[float, ...] = PAPER_MULTIPLIERS
    allow_missing_tokenizer: bool = False
    overwrite: bool = False
    effort: str = "default"


@dataclasses.dataclass(frozen=True)
class _Job:
    """Everything that was decided before work began."""

    checkpoint: Checkpoint
    spec: ModelSpec
    recipe: Recipe
    options: ConvertOptions
    max_length: int
    ladder: tuple[int, ...]
    buckets: tuple[int, ...]
    tokenizer: TokenizerFiles | None
    tokens: KnownTokens
    text: CalibrationText
    warnings: tuple[str, ...]

    @property
    def compensates(self) -> bool:
        """Whether weights are rounded so that errors compensate."""
        return _compensates(self.recipe, self.options)

    def graphs(self) -> tuple[bundle.Graph, ...]:
        """Every graph of model.tflite."""
        return plan_graphs(self.spec, self.ladder)

    def estimates(self, plan: Plan) -> tuple[EstimateKey, ...]:
        """Every graph of estimates.zip."""
        return keys_of_bundle(self.spec, self.ladder, self.buckets, plan.grid.count if plan.grid else 0)


@dataclasses.dataclass(frozen=True)
class _Graphs:
    """Of model.tflite and of estimates.zip."""

    of_model: tuple[bundle.Graph, ...]
    estimates: tuple[EstimateKey, ...]


def convert(
    model: str | Path,
    output: str | Path,
    *,
    options: ConvertOptions | None = None,
    progress: TextIO | None = None,
    **choices: Any,
) -> Path:
    """Converts a Hugging Face directory or a GGUF file into the bundle folder `output`; returns its path.

    choices: the fields of ConvertOptions by name (weights="float32", max_length=4096, ...), instead of `options`.
    progress: the stream that is told what is being done; None: stderr. Raises ValueError in one sentence, before work
    begins, for anything that cannot be converted; whatever happens, `output` is a finished bundle or does not exist.
    """
    if options is None:
        options = _options(choices)
    elif choices:
        raise TypeError(f"give either options or {', '.join(choices)}, not both")
    stream, began = progress or sys.stderr, time.monotonic()
    step = functools.partial(Progress, stream=stream, keep=True)
    output = Path(output)
    with step("reading the model"):
        job = _decide(Path(model), output, options)
    for sentence in job.warnings:
        print(f"warning: {sentence}", file=stream, flush=True)
    with written_aside(output, options.overwrite) as folder:
        with tempfile.TemporaryDirectory(dir=folder) as rounded:
            calibration, load_weight = _calibrate(job, Path(rounded), step)
            plan = calibration.plan
            graphs = job.graphs()
            verification = _write_model(job, graphs, load_weight, folder / bundle.MODEL, step)
        (folder / plan_file.FILE_NAME).write_bytes(plan.to_bytes())
        estimates = job.estimates(plan)
        if estimates:
            with step(f"writing {len(estimates)} estimate graphs of head groups"):
                write_estimates(folder / estimate_graphs.FILE_NAME, job.spec, estimates, plan)
        tokenizer = _write_tokenizer(job, folder)
        with step("writing the manifest"):
            facts = _calibration_facts(calibration, job, verification)
            _write_manifest(job, _Graphs(graphs, estimates), tokenizer, facts, folder)
    size = sum(file.stat().st_size for file in output.iterdir())
    made = f"{output}: {size / 1e6:.0f} MB, {len(graphs) + len(estimates)} graphs"
    took = f"took {(time.monotonic() - began) / 60:.1f} min, {_peak_memory_gb():.1f} GB of memory at most"
    print(f"{made}; {took}", file=stream, flush=True)
    return output


def _options(choices: dict[str, Any]) -> ConvertOptions:
    known = [field.name for field in dataclasses.fields(ConvertOptions)]
    unknown = sorted(set(choices) - set(known))
    if unknown:
        raise ValueError(f"unknown option {unknown[0]!r}; known are {', '.join(known)}")
    return ConvertOptions(**choices)


def _decide(model: Path, output: Path, options: ConvertOptions) -> _Job:
    """Reads headers, decides on every graph, and refuses what will not do, before anything is written."""
    recipe = parse_recipe(options.weights)
    if options.effort not in EFFORTS:
        raise ValueError(f"effort must be {' or '.join(EFFORTS)}, got {options.effort!r:.60}")
    if options.keep_ratio is not None and not (math.isfinite(options.keep_ratio) and 0 < options.keep_ratio <= 1):
        raise ValueError(f"keep_ratio must be in (0, 1], got {options.keep_ratio}; 1.0 is dense attention")
    if options.grid_multipliers:
        check_multipliers(options.grid_multipliers)
    check_output(output, options.overwrite)
    checkpoint = open_checkpoint(model)
    spec = read_config(checkpoint.config, str(model / "config.json" if model.is_dir() else model))
    about_weights = check_weights(checkpoint, spec)
    max_length = _max_length(options.max_length, spec)
    ladder = prefill_ladder(options.prefill_chunks, max_length)
    buckets = sequence_buckets(max_length)
    compensates = _compensates(recipe, options)
    check_resources(spec, recipe, plan_graphs(spec, ladder), output.resolve().parent, compensates)
    tokenizer = readable_tokenizer(checkpoint, options.allow_missing_tokenizer)
    tokens = known_tokens(checkpoint, tokenizer, spec.vocab_size)
    about_tokenizer = tokenizer.warnings if tokenizer else ()
    warnings = (*about_weights, *checkpoint.warnings, *about_tokenizer, *tokens.warnings)
    own = None if options.calibration_text is None else Path(options.calibration_text)
    text = calibration_text(spec, tokenizer.json if tokenizer else None, own)
    return _Job(checkpoint, spec, recipe, options, max_length, ladder, buckets, tokenizer, tokens, text, warnings)


def _compensates(recipe: Recipe, options: ConvertOptions) -> bool:
    return recipe.bits == 8 and recipe.rotated and options.effort != "quick"


def _max_length(asked: int | None, spec: ModelSpec) -> int:
    if asked is None:
        return spec.max_length
    if not 1 <= asked <= spec.max_length:
        raise ValueError(
            f"max_length must be between 1 and {spec.max_length} (what the model was made for), got {asked}"
        )
    return asked


def _calibrate(
    job: _Job, folder: Path, step: Callable[[str], Progress]
) -> tuple[Calibration, Callable[[str], StoredWeight]]:
    """What the text told, and the weights as they are written; rounded ones lie in `folder` until then."""
    grid = GridChoice(job.options.grid_multipliers, job.ladder[-1])
    read = job.checkpoint.read
    with step(f"calibrating on {len(job.text.ids)} tokens") as shown:
        if not job.recipe.rotated:
            calibration = calibrate(job.spec, read, job.text, shown.update, grid)
            return calibration, lambda name: job.recipe.store(name, read(name))
        layers = LayerRounder(random_rotation(job.spec), job.recipe, read, folder if job.compensates else None)
        load = layers.rotation.wrap(read)
        return calibrate(job.spec, load, job.text, shown.update, grid, layers), layers.weights()


def _write_model(
    job: _Job,
    graphs: tuple[bundle.Graph, ...],
    load_weight: Callable[[str], StoredWeight],
    path: Path,
    step: Callable[[str], Progress],
) -> Verification:
    with step("converting the pieces of a layer with litert_torch") as shown:
        pieces = convert_pieces(job.spec, split_chunks(job.ladder), job.recipe.rotated, shown.update)
    with step(f"writing {len(graphs)} graphs and the {job.recipe.name} weights") as shown:
        model = assemble(job.spec, job.recipe, pieces, graphs, load_weight)
        model.write(path, shown.update, model_file_bytes(job.spec, job.recipe, graphs))
    with step("verifying against torch"):
        return verify_model(path, job.spec, job.recipe, graphs, load_weight)


def _write_tokenizer(job: _Job, folder: Path) -> bundle.Tokenizer:
    files = job.tokenizer
    make = functools.partial(bundle.Tokenizer, bos_token_id=job.tokens.bos, stop_token_ids=job.tokens.stops)
    if files is None:
        return make(file=None, chat_template=None, special_tokens={})
    (folder / bundle.TOKENIZER).write_text(files.json, "utf-8")
    template = None
    if files.chat_template is not None:
        template = bundle.CHAT_TEMPLATE
        (folder / template).write_text(files.chat_template, "utf-8")
    return make(
        file=bundle.TOKENIZER,
        chat_template=template,
        special_tokens=dict(files.special_tokens),
        chat_adds_bos=files.chat_adds_bos and job.tokens.bos is not None,
    )


def _calibration_facts(calibration: Calibration, job: _Job, verification: Verification) -> dict[str, Any]:
    return {
        "text": job.text.description,
        "tokens": len(job.text.ids),
        "rotated": job.recipe.rotated,
        "down_block": down_block(job.spec) if job.recipe.rotated else 1,
        "rounding": "compensated" if job.compensates else "nearest",
        "estimate_multiplier": calibration.plan.estimate_multiplier,
        "grid": dict(calibration.grid_facts),
        "verified_against_torch": {name: float(f"{value:.3g}") for name, value in verification.differences.items()},
    }


def _write_manifest(
    job: _Job, graphs: _Graphs, tokenizer: bundle.Tokenizer, facts: dict[str, Any], folder: Path
) -> None:
    """manifest.json, last of all files, and read back through the reader that every user of the bundle has."""
    origin = job.checkpoint.origin
    manifest = bundle.Manifest(
        created_by=f"shadowattn {_version()}",
        name=origin.name,
        source=origin.source,
        licence=origin.licence,
        weights=job.recipe.name,
        model=job.spec,
        max_length=job.max_length,
        keep_ratio=job.options.keep_ratio,
        prefill_chunks=job.ladder,
        score_rows=SCORE_ROWS,
        seq_lens=job.buckets,
        graphs=graphs.of_model,
        estimates=tuple(key.name for key in graphs.estimates),
        tokenizer=tokenizer,
        calibration=facts,
        files={file.name: bundle.file_info(file) for file in sorted(folder.iterdir())},
        sampling=job.checkpoint.sampling,
    )
    (folder / bundle.MANIFEST).write_text(manifest.to_json(), "utf-8")
    bundle.read_manifest(folder)


def _version() -> str:
    try:
        return importlib.metadata.version("shadowattn")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def _peak_memory_gb() -> float:
    """Largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
