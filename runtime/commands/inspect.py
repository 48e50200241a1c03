"""`shadowattn inspect`: what is in a bundle, and who runs each node of its graphs."""

import collections
import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from shadowattn.models.progress import waiting
from shadowattn.runtime.commands.output import print_json
from shadowattn.runtime.commands.session_flags import (
    SESSION_RESEARCH,
    bundle_argument,
    define_session_flags,
    open_session,
)

if TYPE_CHECKING:  # loaded by run(): `--help` needs none of it
    from shadowattn.models.bundle import Graph, Manifest


class Inspect:
    """The subcommand; the contract is in shadowattn.runtime.cli."""

    name = "inspect"
    summary = "show what is in a bundle: model, files, graphs, ops and who runs them; --verify checks every byte"
    usage = "BUNDLE [flags]"
    example = (
        "shadowattn inspect smollm2.bundle\n"
        "shadowattn inspect smollm2.bundle --verify\n"
        "shadowattn inspect smollm2.bundle --estimates --nonode_assignments\n"
        "shadowattn inspect smollm2.bundle --json --nonode_assignments"
    )
    research = ("estimates", "nodes", *SESSION_RESEARCH)

    def define_flags(self, flag_values: flags.FlagValues) -> None:
        flags.DEFINE_bool("verify", False, "compare the SHA-256 of every file", flag_values=flag_values)
        flags.DEFINE_bool(
            "node_assignments",
            True,
            "open the bundle and ask LiteRT who runs each node (loads the model)",
            flag_values=flag_values,
        )
        flags.DEFINE_bool(
            "estimates",
            False,
            "prepare the estimate graphs of the longest chunk one after the other: time and memory of each size",
            flag_values=flag_values,
        )
        flags.DEFINE_bool("nodes", False, "list every node, not only counts per op", flag_values=flag_values)
        flags.DEFINE_bool("json", False, "print one JSON object", flag_values=flag_values)
        define_session_flags(flag_values)

    def run(self, positional: list[str], flag_values: flags.FlagValues) -> int:
        from shadowattn.models.bundle import read_manifest, verify

        bundle = bundle_argument(positional, flag_values, f"shadowattn inspect {self.usage}")
        manifest = read_manifest(bundle)
        problems: list[str] | None = None
        if flag_values.verify:
            with waiting(f"hashing {bundle}"):
                problems = verify(bundle, manifest)
        report = describe(bundle, manifest)
        if flag_values.estimates and not problems:
            report["estimates"]["prepared"] = _prepare(bundle, manifest, flag_values)
        if flag_values.verify:
            report["verified"] = not problems
        if flag_values.node_assignments and not problems:
            report["nodes"] = _node_assignments(bundle, flag_values)
        if flag_values.json:
            print_json(report)
        else:
            print(_text(report, manifest, flag_values.nodes))
        if problems:
            raise ValueError(f"{'; '.join(problems)}; the bundle was changed or is damaged, convert the model again")
        return 0


def describe(bundle: Path, manifest: "Manifest") -> dict[str, Any]:
    """Everything that the files say, without loading the model."""
    from shadowattn.models.plan import Plan
    from shadowattn.runtime.measure import estimate_cost

    path = bundle / manifest.plan_file
    plan = Plan.from_bytes(path.read_bytes(), str(path))
    facts = dataclasses.asdict(manifest)
    return {
        "bundle": str(bundle),
        "bytes": sum(info.bytes for info in manifest.files.values()),
        "manifest": facts,
        "plan": {
            "num_layers": plan.num_layers,
            "num_kv_heads": plan.num_kv_heads,
            "head_dim": plan.head_dim,
            "estimate_multiplier": plan.estimate_multiplier,
            "key_scale_min": float(plan.scale.min()),
            "key_scale_max": float(plan.scale.max()),
            "key_centre_abs_max": float(abs(plan.centre).max()),
        },
        "estimates": estimate_cost.describe(manifest, plan),
    }


def _prepare(bundle: Path, manifest: "Manifest", flag_values: flags.FlagValues) -> list[dict[str, Any]]:
    from shadowattn.runtime.litert.interpreter import keep_infos_off_stderr
    from shadowattn.runtime.measure.estimate_cost import prepare
    from shadowattn.runtime.session.threads import default_num_threads

    if not manifest.estimates:
        return []
    if flag_values.verbosity == 0:
        keep_infos_off_stderr()
    with waiting(f"preparing the estimate graphs of {bundle}"):
        return [
            dataclasses.asdict(row)
            for row in prepare(bundle, manifest, flag_values.num_threads or default_num_threads())
        ]


def _node_assignments(bundle: Path, flag_values: flags.FlagValues) -> list[dict[str, Any]]:
    """Runs every graph that a session may use once, because LiteRT decides when a graph is first prepared."""
    with waiting(f"running the graphs of {bundle}"), open_session(bundle, flag_values) as session:
        for chunk in session.manifest.prefill_chunks:
            session.reset()
            session.prefill([0] * min(chunk, session.max_length))
        session.rewind(min(session.length, session.max_length) - 1)
        if session.length:
            session.decode(0)
        else:  # a bundle of single rows: the prefill was a decode, or there is room for nothing else
            session.prepare(1)
        if flag_values.executor == "pipelined" and session.length < session.max_length:
            session.prepare(session.max_length - session.length)  # estimate graphs of every bucket
        if session.manifest.score_rows:
            session.score([0, 0])
        rows = session.node_assignments()
    return [{"signature": row.signature, "node": row.index, "op": row.op, "runner": row.runner} for row in rows]


# --- for people ---


def _text(report: dict[str, Any], manifest: "Manifest", every_node: bool) -> str:
    from shadowattn.runtime.measure import estimate_cost

    parts = [_facts(report, manifest), _files(manifest), _graphs(manifest), _plan(report["plan"])]
    parts.append(estimate_cost.text(report["estimates"]))
    if "nodes" in report:
        parts.append(_every_node(report["nodes"]) if every_node else _op_counts(report["nodes"]))
    if "verified" in report:
        parts.append("hashes: " + ("every file is as it was written" if report["verified"] else "DIFFERENT"))
    return "\n\n".join(parts)


def _facts(report: dict[str, Any], manifest: "Manifest") -> str:
    from shadowattn.runtime.measure.table import format_bytes

    model, tokenizer = manifest.model, manifest.tokenizer
    facts = {
        "bundle": report["bundle"],
        "model": f"{manifest.name} ({model.family}, {model.num_parameters / 1e6:,.1f} M parameters)",
        "source": manifest.source,
        "licence": manifest.licence,
        "made by": manifest.created_by,
        "weights": manifest.weights,
        "size": format_bytes(report["bytes"]),
        "layers": f"{model.num_layers}, hidden size {model.hidden_size:,}, vocabulary {model.vocab_size:,}",
        "heads": f"{model.num_heads} query, {model.num_kv_heads} KV, head_dim {model.head_dim}",
        "max_length": f"{manifest.max_length:,} positions",
        "keep_ratio": f"{'auto' if manifest.keep_ratio is None else format(manifest.keep_ratio, 'g')} by default",
        "prefill chunks": ", ".join(map(str, manifest.prefill_chunks)),
        "buckets": ", ".join(f"{length:,}" for length in manifest.seq_lens) + " positions (estimate graphs)",
        "tokenizer": tokenizer.file or "none: takes token ids only",
        "chat template": tokenizer.chat_template or "none",
        "stop tokens": ", ".join(map(str, tokenizer.stop_token_ids)) or "none",
        "sampling": ", ".join(f"{name} {value:g}" for name, value in dataclasses.asdict(manifest.sampling).items()),
    }
    width = max(map(len, facts))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in facts.items())


def _files(manifest: "Manifest") -> str:
    from shadowattn.runtime.measure.table import format_bytes, format_table

    rows = [[name, format_bytes(info.bytes), info.sha256[:16]] for name, info in manifest.files.items()]
    return format_table(["file", "size", "sha256 (start)"], rows)


def _graphs(manifest: "Manifest") -> str:
    """One row per role and chunk: a model of 30 layers has hundreds of signatures."""
    from shadowattn.runtime.measure.table import format_table

    groups: dict[tuple[str, int], list[Graph]] = collections.defaultdict(list)
    for graph in manifest.graphs:
        groups[graph.role, graph.chunk].append(graph)
    rows = []
    for (role, chunk), graphs in groups.items():
        rows.append([role, chunk, len(graphs), graphs[0].signature])
    return format_table(["role", "rows", "graphs", "first signature"], rows)


def _plan(plan: dict[str, Any]) -> str:
    return (
        f"plan: K centres and scales of {plan['num_layers']} layers x {plan['num_kv_heads']} KV heads, INT8 step "
        f"{plan['key_scale_min']:.3g} to {plan['key_scale_max']:.3g}, largest centre {plan['key_centre_abs_max']:.3g}, "
        f"estimate multiplier {plan['estimate_multiplier']:.3g}"
    )


def _op_counts(nodes: list[dict[str, Any]]) -> str:
    """A row per signature and runner. The linear graphs of the layers share theirs."""
    from shadowattn.runtime.measure.table import format_table

    counts: dict[tuple[str, str], collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for node in nodes:
        group = re.sub(r"^linear_\d+_", "linear_<layer>_", node["signature"])
        counts[group, node["runner"]][node["op"]] += 1
    rows = []
    for (group, runner), ops in sorted(counts.items()):
        listed = ", ".join(f"{count:,} {op}" for op, count in sorted(ops.items()))
        rows.append([group, runner, ops.total(), listed])
    return format_table(["signature", "run by", "nodes", "ops"], rows)


def _every_node(nodes: list[dict[str, Any]]) -> str:
    from shadowattn.runtime.measure.table import format_table

    rows = [[node["signature"], node["node"], node["op"], node["runner"]] for node in nodes]
    return format_table(["signature", "node", "op", "run by"], rows)


COMMAND = Inspect()
