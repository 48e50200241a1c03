"""What no order of the same groups can beat, and what running without overlap costs."""

from collections.abc import Sequence

from shadowattn.runtime.scheduling.problem import HeadGroup, Problem, Work, work_of


def one_after_the_other(problem: Problem, groups: Sequence[HeadGroup]) -> float:
    """Seconds of all stages of these groups without any overlap."""
    return sum(estimate + cpu for estimate, cpu in work_of(problem, groups))


def lower_bound(problem: Problem, groups: Sequence[HeadGroup]) -> float:
    """Seconds that every order of these groups needs."""
    return bound_of(work_of(problem, groups), problem.depth)


def speedup_bound(problem: Problem, groups: Sequence[HeadGroup]) -> float:
    """(sum of all stages) / (the busier resource's sum): what overlap could gain if nothing had to wait. At least 1."""
    work = work_of(problem, groups)
    busiest = max(sum(estimate for estimate, _ in work), sum(cpu for _, cpu in work))
    return sum(estimate + cpu for estimate, cpu in work) / busiest if busiest else 1.0


def bound_of(work: Sequence[Work], depth: int) -> float:
    """max(all estimates and the shortest CPU span, which follows the last of them; the shortest estimate, which goes
    before the first CPU span, and all of those; the longest group). One buffer (depth 1) overlaps nothing; with two the
    n-th longest estimate and the n-th longest CPU span, together the cheapest neighbours that each could have, are a
    bound too (gilmore_gomory.py)."""
    estimates, spans = zip(*work, strict=True)
    if depth == 1:
        return sum(estimates) + sum(spans)
    bound = max(sum(estimates) + min(spans), min(estimates) + sum(spans), *map(sum, work))
    if depth == 2:
        return max(bound, sum(map(max, sorted(estimates), sorted(spans))))
    return bound
