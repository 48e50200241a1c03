"""The slow oracle of mode shadow: softmax weights, threshold, selection, residual compensation (docs/algorithm.md).

Positions are selected by float32 weights that are computed operation by operation as the kernels compute them, so
selections compare exactly. Everything after the selection is float64.
"""

import dataclasses

import numpy as np

from shadowattn.models.oracle.skipping import (
    FEWEST_PAGES,
    SkipMargins,
    is_sampled,
    page_sums32,
    skip_losses,
    skippable_pages,
    units,
)
from shadowattn.models.oracle.steps import (
    PAGE,
    attend,
    coarse_step,
    estimate,
    quantize_keys,
    quantize_queries,
    softmax_weights32,
)
from shadowattn.models.plan import Plan

AUTO_LENGTH = 2048  # beyond it auto_threshold falls as 1 / length
SELECTED_SHARE = 0.25  # of what a page leaves out, to the positions that are selected there
ABLATED = 1e30  # a head of a larger threshold factor puts out zeros
_COARSEST_STEP = np.float32(0.3)


@dataclasses.dataclass(frozen=True)
class ShadowRule:
    """Which positions a row selects. threshold 0: the plan's for keep_ratio; keep_ratio None: its auto_threshold.
    max_skipped_mass: share of a row's mass that may lie on pages it does not score; 0: it scores all."""

    keep_ratio: float | None = None
    min_k: int = 64
    sinks: int = 1
    latest: int = 1
    threshold: float = 0.0
    max_skipped_mass: float = 0.0
    compensate: bool = True

    def threshold_at(self, plan: Plan, length: int) -> float:
        """Of a row of `length` positions, before the factor of its head: float64."""
        if self.threshold > 0:
            return self.threshold
        if self.keep_ratio is None:
            return float(np.float32(plan.auto_threshold)) * min(1.0, AUTO_LENGTH / length)
        return plan.thresholds.at(self.keep_ratio, length)


@dataclasses.dataclass(frozen=True)
class Chunk:
    """T rows at the end of S positions: q [T,H,d]; keys, values [S,N_kv,d] as stored in the cache, the chunk's own rows
    too; what the plan says of their layer. factors [H]: instead of the plan's."""

    q: np.ndarray
    keys: np.ndarray
    values: np.ndarray
    plan: Plan
    softmax_scale: float
    layer: int = 0
    factors: np.ndarray | None = None

    def length(self, t: int) -> int:
        """Positions that row t sees."""
        return len(self.keys) - len(self.q) + t + 1

    def kv_head(self, head: int) -> int:
        return head // (self.q.shape[1] // self.keys.shape[1])

    def threshold(self, rule: ShadowRule, t: int, head: int) -> np.float32:
        return np.float32(rule.threshold_at(self.plan, self.length(t)) * self.factor(head))

    def factor(self, head: int) -> float:
        factors = self.plan.threshold_factors[self.layer] if self.factors is None else self.factors
        return float(np.float32(factors[head]))


@dataclasses.dataclass(frozen=True)
class ShadowResult:
    """out [T,H*d] float64; selected [T,H]: how many positions; the other two as the op counts them."""

    out: np.ndarray
    selected: np.ndarray
    rows_not_compensated: int
    pages_scored: int = 0


@dataclasses.dataclass(frozen=True)
class Scores:
    """A row's scores [n], each worth `step` logits; coarse: of the estimate graph, so they only rank; scored: bool
    [n], whole pages, the last among them; None: all. What is not scored has no weight."""

    values: np.ndarray
    step: np.float32
    coarse: bool
    scored: np.ndarray | None = None

    def weights(self) -> np.ndarray:
        """float32 [n]."""
        scored = np.ones(len(self.values), bool) if self.scored is None else self.scored
        weights = np.zeros(len(self.values), np.float32)
        weights[scored] = softmax_weights32(self.values[scored], self.step, exact_reference=self.coarse)
        return weights

    @property
    def too_coarse(self) -> bool:
        """Whether they say too little about the mass of what is left out."""
        return self.coarse and bool(self.step > _COARSEST_STEP or self.values.max() == 127)


def mass32(weights: np.ndarray, skip: int) -> np.float32:
    """The sum of float32 weights from position `skip` on, in the kernels' order: page by page, as page_sums32()."""
    total = np.float32(0)
    for of_page in page_sums32(weights, skip):
        total = np.float32(total + of_page)
    return total


def select_by_threshold(scores: Scores, threshold: np.float32, rule: ShadowRule) -> np.ndarray:
    """bool [n]: the positions a row selects. threshold: of a probability, with the factor of the head."""
    length = len(scores.values)
    weights = scores.weights()
    with np.errstate(invalid="ignore"):  # an infinite threshold of no mass keeps nothing either
        least = max(np.float32(threshold * mass32(weights, min(rule.sinks, length))), np.finfo(np.float32).tiny)
    position = np.arange(length)
    forced = (position < rule.sinks) | (position >= length - max(rule.latest, 1))
    return forced | (weights >= least)


def residual_of(weights: np.ndarray, takes: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, float]:
    """What compensates for the positions a query does not select (docs/algorithm.md, compensate).

    weights [n]: softmax weights, zero where selected. takes [n] bool: positions that take the selected's share (the
    selected ones but for sinks). values [n,d]. -> (sum of weighted values [d], sum of weights). Each page's residual is
    spread evenly over the page's visible positions, but for SELECTED_SHARE of it, which goes to those that take.
    """
    total = np.zeros(values.shape[1])
    for begin in range(0, len(weights), PAGE):
        page = np.s_[begin : begin + PAGE]
        mean, of_page = values[page].astype(np.float64).mean(axis=0), weights[page].sum()
        if takes[page].any():
            selected_mean = values[page][takes[page]].astype(np.float64).mean(axis=0)
            mean = (1 - SELECTED_SHARE) * mean + SELECTED_SHARE * selected_mean
        total += of_page * mean
    return total, float(weights.sum())


def attend_selected(
    chunk: Chunk, t: int, head: int, scores: Scores, selected: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """One row, float64 -> (weights of the selected positions [k], weights of the others [n], zero where selected)."""
    weights = scores.weights().astype(np.float64)
    residual = np.where(selected, 0.0, weights)
    if not scores.coarse:
        return weights[selected], residual
    keys = chunk.keys[np.flatnonzero(selected), chunk.kv_head(head)].astype(np.float64)
    logits = chunk.softmax_scale * (keys @ chunk.q[t, head].astype(np.float64))
    exact = np.exp(logits - logits.max())
    estimated = weights[selected].sum()
    return exact, residual * (exact.sum() / estimated if estimated > 0 else 0.0)


def shadow_row(chunk: Chunk, rule: ShadowRule, t: int, head: int, scores: Scores) -> tuple[np.ndarray, int]:
    """One row -> (output [d], positions selected)."""
    selected = select_by_threshold(scores, chunk.threshold(rule, t, head), rule)
    values = chunk.values[: len(selected), chunk.kv_head(head)].astype(np.float64)
    weights, residual = attend_selected(chunk, t, head, scores, selected)
    total, mass = weights @ values[selected], weights.sum()
    if rule.compensate and not scores.too_coarse:
        others, residual_mass = residual_of(residual, selected & (np.arange(len(selected)) >= rule.sinks), values)
        total, mass = total + others, mass + residual_mass
    return total / mass if mass > 0 else total, int(selected.sum())


def fused_scores(chunk: Chunk) -> np.ndarray:
    """The op's own scores: int32 [T,H,S]."""
    k_i8, _ = quantize_keys(chunk.keys, chunk.plan.centre[chunk.layer], chunk.plan.scale[chunk.layer])
    return estimate(quantize_queries(chunk.q), k_i8)


def key_bounds(chunk: Chunk) -> np.ndarray:
    """int64 [T,H,full pages of S]: no score of a page is larger. With q_i8 and the largest and smallest INT8 key of
    each channel in the page: the sum of max(q, 0) * largest + min(q, 0) * smallest."""
    k_i8, _ = quantize_keys(chunk.keys, chunk.plan.centre[chunk.layer], chunk.plan.scale[chunk.layer])
    q = quantize_queries(chunk.q).astype(np.int64)
    full = len(k_i8) // PAGE
    pages = k_i8[: full * PAGE].astype(np.int64).reshape(full, PAGE, *k_i8.shape[1:])
    group = q.shape[1] // k_i8.shape[1]
    largest, smallest = (np.repeat(bound, group, axis=1) for bound in (pages.max(axis=1), pages.min(axis=1)))
    above = np.einsum("thd,phd->thp", np.maximum(q, 0), largest)
    return above + np.einsum("thd,phd->thp", np.minimum(q, 0), smallest)


def scored_positions(bounds: np.ndarray, length: int, step: np.float32, margin: float, rule: ShadowRule) -> np.ndarray:
    """bool [length]: the positions a row scores. bounds: those of its pages (see key_bounds), at least of its full
    ones. step: logits of one unit of them."""
    scored = np.ones(length, bool)
    full = length // PAGE
    if margin == float("inf") or full < FEWEST_PAGES:
        return scored
    cut = int(bounds[:full].max()) - units(margin, step)
    for page in skippable_pages(length, rule.sinks, rule.latest):
        scored[page * PAGE : (page + 1) * PAGE] = bounds[page] >= cut
    return scored


def record_skip_losses(
    margins: SkipMargins, chunk: Chunk, rule: ShadowRule, t: int, head: int, scores: Scores, bounds: np.ndarray
) -> None:
    """Adds what a row that scored everything would have lost at each margin. bounds: of its pages."""
    length = len(scores.values)
    full = length // PAGE
    if full < FEWEST_PAGES:
        return
    sums = page_sums32(scores.weights(), min(rule.sinks, length))
    free = skippable_pages(length, rule.sinks, rule.latest)
    margins.add_sample(head, chunk.length(t) - 1, skip_losses(bounds[:full], sums, free, scores.step))


def replay(chunk: Chunk, rule: ShadowRule) -> SkipMargins:
    """The skip-loss samples of a whole text."""
    margins = SkipMargins()
    times = [t for t in range(len(chunk.q)) if is_sampled(chunk.length(t) - 1)]
    sampled = dataclasses.replace(chunk, q=chunk.q[times])
    all_scores, bounds = fused_scores(sampled), key_bounds(sampled)
    for i, t in enumerate(times):
        for head in range(chunk.q.shape[1]):
            values = all_scores[i, head, : chunk.length(t)].astype(np.int64)
            scores = Scores(values, _fused_worth(chunk, t, head), False)
            record_skip_losses(margins, chunk, rule, t, head, scores, bounds[i, head])
    return margins


def row_scores(chunk: Chunk, t: int, head: int, all_scores: np.ndarray, coarse: bool) -> Scores:
    """Of one row, from the scores [T,H,S] of all; every page."""
    worth = _coarse_worth if coarse else _fused_worth
    return Scores(all_scores[t, head, : chunk.length(t)].astype(np.int64), worth(chunk, t, head), coarse)


def _fused_worth(chunk: Chunk, t: int, head: int) -> np.float32:
    """Logits of one step of the scores: float32, as the kernels multiply."""
    key_step = np.float32(chunk.plan.scale[chunk.layer, chunk.kv_head(head)]) * np.float32(chunk.softmax_scale)
    return np.float32(np.abs(chunk.q[t, head].astype(np.float32)).max() / np.float32(127) * key_step)


def _coarse_worth(chunk: Chunk, t: int, head: int) -> np.float32:
    plan, kv_head = chunk.plan, chunk.kv_head(head)
    multiplier = float(np.float32(plan.estimate_multiplier))
    per_unit = coarse_step(chunk.q[t, head], plan.k_variance[chunk.layer, kv_head], multiplier)
    if per_unit == 0:
        return np.float32(0)
    scale = float(np.float32(chunk.softmax_scale)) * float(plan.scale[chunk.layer, kv_head])
    return np.float32(scale / (multiplier * per_unit))


def shadow_attention(
    chunk: Chunk, rule: ShadowRule, scores_i8: np.ndarray | None = None, margins: SkipMargins | None = None
) -> ShadowResult:
    """The op in mode shadow on one chunk. scores_i8 [T,H,S]: the split form's; None: the fused form. margins: what the
    rows before the chunk sampled; its own are added."""
    time, heads, head_dim = chunk.q.shape
    out, selected, not_compensated = np.zeros((time, heads, head_dim)), np.zeros((time, heads), int), 0
    pages_scored = 0
    coarse = scores_i8 is not None
    all_scores = fused_scores(chunk) if scores_i8 is None else scores_i8
    margins = SkipMargins() if margins is None else margins
    bounds = None if coarse or not rule.max_skipped_mass else key_bounds(chunk)
    for t in range(time):
        selects_all = chunk.length(t) <= rule.min_k
        for h in range(heads):
            if selects_all:
                seen = np.s_[: chunk.length(t), chunk.kv_head(h)]
                out[t, h] = attend(chunk.q[t, h], chunk.keys[seen], chunk.values[seen], chunk.softmax_scale)
                selected[t, h] = chunk.length(t)
                continue
            scores = row_scores(chunk, t, h, all_scores, coarse)
            if bounds is not None:
                position = chunk.length(t) - 1
                margin = float("inf") if is_sampled(position) else margins.margin(h, position, rule.max_skipped_mass)
                scored = scored_positions(bounds[t, h], chunk.length(t), scores.step, margin, rule)
                scores = dataclasses.replace(scores, scored=scored)
                if is_sampled(position):
                    record_skip_losses(margins, chunk, rule, t, h, scores, bounds[t, h])
            pages_scored += -(-chunk.length(t) // PAGE) if scores.scored is None else int(scores.scored[::PAGE].sum())
            out[t, h], selected[t, h] = shadow_row(chunk, rule, t, h, scores)
            not_compensated += rule.compensate and scores.too_coarse
    out[:, [chunk.factor(h) > ABLATED for h in range(heads)]] = 0
    return ShadowResult(out.reshape(time, heads * head_dim), selected, int(not_compensated), pages_scored)
