"""The slow oracle of mode shadow, in NumPy: weights, threshold, selected positions, residual compensation (docs/op_spec.md, steps 2 to 5).

Positions are kept by float32 weights made operation by operation as the kernels make them, so they compare exactly.
What is done with them is float64.
"""

import dataclasses

import numpy as np

from shadowattn.models.plan import Plan
from shadowattn.models.reference import PAGE, attend, coarse_step, estimate, quantize_keys, quantize_queries, weights32
from shadowattn.models.reference_pages import FEWEST_PAGES, PageHistory, free_pages, losses, notes, page_sums32, units

AUTO_LENGTH = 2048  # beyond it auto_threshold falls as 1 / length
KEPT_SHARE = 0.25  # of what a page leaves out, to the positions that are kept there
SILENT = 1e30  # a head of a larger threshold factor puts out zeros
_COARSEST_STEP = np.float32(0.3)


@dataclasses.dataclass(frozen=True)
class ShadowRule:
    """Which positions a row keeps. threshold 0: the plan's for keep_ratio; keep_ratio None: its auto_threshold.
    max_skipped_mass: share of a row's mass that may lie on pages it does not score; 0: it scores all."""

    keep_ratio: float | None = None
    min_k: int = 64
    sinks: int = 1
    latest: int = 1
    threshold: float = 0.0
    max_skipped_mass: float = 0.0
    compensate: bool = True

    def threshold_at(self, plan: Plan, length: int) -> float:
        """Of a row that sees `length` positions, before the factor of its head: float64."""
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
    """out [T,H*d] float64; kept [T,H]: positions read; rows_not_compensated and pages_scored as the op counts them."""

    out: np.ndarray
    kept: np.ndarray
    rows_not_compensated: int
    pages_scored: int = 0


@dataclasses.dataclass(frozen=True)
class Scores:
    """A row's scores [n], each worth `step` logits; coarse: of the estimate graph, so they only choose; scored: bool
    [n], whole pages, the last among them; None: all. What is not scored has no weight."""

    values: np.ndarray
    step: np.float32
    coarse: bool
    scored: np.ndarray | None = None

    def weights(self) -> np.ndarray:
        """float32 [n]."""
        scored = np.ones(len(self.values), bool) if self.scored is None else self.scored
        weights = np.zeros(len(self.values), np.float32)
        weights[scored] = weights32(self.values[scored], self.step, exact_reference=self.coarse)
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


def choose(scores: Scores, threshold: np.float32, rule: ShadowRule) -> np.ndarray:
    """bool [n]: the positions a row keeps. threshold: of a probability, with the factor of the head."""
    length = len(scores.values)
    weights = scores.weights()
    with np.errstate(invalid="ignore"):  # an infinite threshold of no mass keeps nothing either
        least = max(np.float32(threshold * mass32(weights, min(rule.sinks, length))), np.finfo(np.float32).tiny)
    position = np.arange(length)
    forced = (position < rule.sinks) | (position >= length - max(rule.latest, 1))
    return forced | (weights >= least)


def residual_of(rest: np.ndarray, takes: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, float]:
    """rest [n]: weights of what a row left out, zero where it kept; takes [n]: positions it kept, but for sinks; values
    [n,d] -> (sum of weighted values [d], sum of weights) of what stands for it: each page's rest, spread evenly over
    the page's positions up to the row's own, but for a quarter that goes to those that take, where there are any."""
    total = np.zeros(values.shape[1])
    for begin in range(0, len(rest), PAGE):
        page = np.s_[begin : begin + PAGE]
        mean, of_page = values[page].astype(np.float64).mean(axis=0), rest[page].sum()
        if takes[page].any():
            kept_mean = values[page][takes[page]].astype(np.float64).mean(axis=0)
            mean = (1 - KEPT_SHARE) * mean + KEPT_SHARE * kept_mean
        total += of_page * mean
    return total, float(rest.sum())


def attend_kept(chunk: Chunk, t: int, head: int, scores: Scores, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(weights of the kept positions [k], weights of the rest [n], zero where kept), of one row: float64."""
    weights = scores.weights().astype(np.float64)
    rest = np.where(kept, 0.0, weights)
    if not scores.coarse:
        return weights[kept], rest
    keys = chunk.keys[np.flatnonzero(kept), chunk.kv_head(head)].astype(np.float64)
    logits = chunk.softmax_scale * (keys @ chunk.q[t, head].astype(np.float64))
    exact = np.exp(logits - logits.max())
    estimated = weights[kept].sum()
    return exact, rest * (exact.sum() / estimated if estimated > 0 else 0.0)


def shadow_row(chunk: Chunk, rule: ShadowRule, t: int, head: int, scores: Scores) -> tuple[np.ndarray, int]:
    """One row -> (output [d], positions kept)."""
    kept = choose(scores, chunk.threshold(rule, t, head), rule)
    values = chunk.values[: len(kept), chunk.kv_head(head)].astype(np.float64)
    weights, rest = attend_kept(chunk, t, head, scores, kept)
    total, mass = weights @ values[kept], weights.sum()
    if rule.compensate and not scores.too_coarse:
        residual, residual_mass = residual_of(rest, kept & (np.arange(len(kept)) >= rule.sinks), values)
        total, mass = total + residual, mass + residual_mass
    return total / mass if mass > 0 else total, int(kept.sum())


def fused_scores(chunk: Chunk) -> np.ndarray:
    """The op's own scores: int32 [T,H,S]."""
    k_i8, _ = quantize_keys(chunk.keys, chunk.plan.centre[chunk.layer], chunk.plan.scale[chunk.layer])
    return estimate(quantize_queries(chunk.q), k_i8)


def page_bounds(chunk: Chunk) -> np.ndarray:
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
    """bool [length]: the positions a row scores. bounds: those of its pages (see page_bounds), at least of its full
    ones. step: logits of one unit of them."""
    scored = np.ones(length, bool)
    full = length // PAGE
    if margin == float("inf") or full < FEWEST_PAGES:
        return scored
    cut = int(bounds[:full].max()) - units(margin, step)
    for page in free_pages(length, rule.sinks, rule.latest):
        scored[page * PAGE : (page + 1) * PAGE] = bounds[page] >= cut
    return scored


def note_losses(
    history: PageHistory, chunk: Chunk, rule: ShadowRule, t: int, head: int, scores: Scores, bounds: np.ndarray
) -> None:
    """What the row, which scored everything, would have lost. bounds: of its pages."""
    length = len(scores.values)
    full = length // PAGE
    if full < FEWEST_PAGES:
        return
    sums = page_sums32(scores.weights(), min(rule.sinks, length))
    free = free_pages(length, rule.sinks, rule.latest)
    history.note(head, chunk.length(t) - 1, losses(bounds[:full], sums, free, scores.step))


def replay(chunk: Chunk, rule: ShadowRule) -> PageHistory:
    """What the rows of a whole text have noted."""
    history = PageHistory()
    times = [t for t in range(len(chunk.q)) if notes(chunk.length(t) - 1)]
    sampled = dataclasses.replace(chunk, q=chunk.q[times])
    all_scores, bounds = fused_scores(sampled), page_bounds(sampled)
    for i, t in enumerate(times):
        for head in range(chunk.q.shape[1]):
            values = all_scores[i, head, : chunk.length(t)].astype(np.int64)
            scores = Scores(values, _fused_worth(chunk, t, head), False)
            note_losses(history, chunk, rule, t, head, scores, bounds[i, head])
    return history


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
    chunk: Chunk, rule: ShadowRule, scores_i8: np.ndarray | None = None, history: PageHistory | None = None
) -> ShadowResult:
    """The op in mode shadow on one chunk. scores_i8 [T,H,S]: the split form's; None: the fused form. history: what the
    rows before the chunk noted; its own are added."""
    time, heads, head_dim = chunk.q.shape
    out, kept, not_compensated = np.zeros((time, heads, head_dim)), np.zeros((time, heads), int), 0
    pages_scored = 0
    coarse = scores_i8 is not None
    all_scores = fused_scores(chunk) if scores_i8 is None else scores_i8
    history = PageHistory() if history is None else history
    bounds = None if coarse or not rule.max_skipped_mass else page_bounds(chunk)
    for t in range(time):
        reads_all = chunk.length(t) <= rule.min_k
        for h in range(heads):
            if reads_all:
                seen = np.s_[: chunk.length(t), chunk.kv_head(h)]
                out[t, h] = attend(chunk.q[t, h], chunk.keys[seen], chunk.values[seen], chunk.softmax_scale)
                kept[t, h] = chunk.length(t)
                continue
            scores = row_scores(chunk, t, h, all_scores, coarse)
            if bounds is not None:
                position = chunk.length(t) - 1
                margin = float("inf") if notes(position) else history.margin(h, position, rule.max_skipped_mass)
                scored = scored_positions(bounds[t, h], chunk.length(t), scores.step, margin, rule)
                scores = dataclasses.replace(scores, scored=scored)
                if notes(position):
                    note_losses(history, chunk, rule, t, h, scores, bounds[t, h])
            pages_scored += -(-chunk.length(t) // PAGE) if scores.scored is None else int(scores.scored[::PAGE].sum())
            out[t, h], kept[t, h] = shadow_row(chunk, rule, t, h, scores)
            not_compensated += rule.compensate and scores.too_coarse
    out[:, [chunk.factor(h) > SILENT for h in range(heads)]] = 0
    return ShadowResult(out.reshape(time, heads * head_dim), kept, int(not_compensated), pages_scored)
