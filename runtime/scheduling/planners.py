"""From a problem to its schedule: which planners there are, and the best of them."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from shadowattn.runtime.scheduling.bounds import bound_of
from shadowattn.runtime.scheduling.exhaustive import MAX_GROUPS, exhaustive
from shadowattn.runtime.scheduling.gilmore_gomory import gilmore_gomory
from shadowattn.runtime.scheduling.grouping import Candidates, candidates
from shadowattn.runtime.scheduling.orders import Rule, fifo, greedy, johnson
from shadowattn.runtime.scheduling.problem import Problem, Work, work_of
from shadowattn.runtime.scheduling.schedule import Schedule, schedule_of
from shadowattn.runtime.scheduling.timing import makespan

Planner = Callable[[Problem], Schedule]
_Grouping = tuple[tuple[int, ...], list[Work]]  # places of its groups among the candidates', and their work
_RULES: dict[str, Rule] = {"fifo": fifo, "greedy": greedy, "johnson": johnson, "gilmore_gomory": gilmore_gomory}


def plan(problem: Problem, planner: str = "best") -> Schedule:
    """The schedule of that planner. Raises ValueError for an unknown planner, or a problem that it cannot plan."""
    if planner not in PLANNERS:
        raise ValueError(f"planner {planner!r} is unknown; there are {', '.join(PLANNERS)}")
    return PLANNERS[planner](problem)


def _by_rules(problem: Problem, of: Candidates, groupings: Sequence[_Grouping], rules: Mapping[str, Rule]) -> Schedule:
    """The shortest schedule of these groupings of `of`; the first among equals. Groupings whose bound is no shorter
    than what was found already are left out."""
    bounded = sorted((bound_of(work, problem.depth), index) for index, (_, work) in enumerate(groupings))
    best, found = float("inf"), None
    for bound, index in bounded:
        places, work = groupings[index]
        for name, rule in rules.items():
            if bound >= best:
                break
            if name == "exhaustive" and len(work) > MAX_GROUPS:
                continue
            order = rule(work, problem.depth)
            seconds = makespan([work[place] for place in order], problem.depth)
            if seconds < best:
                best, found = seconds, (of.grouping(places[place] for place in order), name)
    if found is None:
        raise ValueError(f"no grouping has at most {MAX_GROUPS} groups to try all orders of; use another planner")
    return schedule_of(problem, *found)


def _with_work(problem: Problem, of: Candidates, groupings: Iterable[tuple[int, ...]]) -> list[_Grouping]:
    work = work_of(problem, of.groups)
    return [(places, [work[place] for place in places]) for places in groupings]


def _uniform(rule: str) -> Planner:
    """One rule on the groupings of one number of fused heads each: the outer level chooses that number."""

    def planned(problem: Problem) -> Schedule:
        of = candidates(problem)
        return _by_rules(problem, of, _with_work(problem, of, of.uniform), {rule: _RULES[rule]})

    return planned


def _exhaustive(problem: Problem) -> Schedule:
    of = candidates(problem)
    return _by_rules(problem, of, _with_work(problem, of, of.uniform + of.ramps), {"exhaustive": exhaustive})


def _best(problem: Problem) -> Schedule:
    """Every rule on every grouping, and all orders of few groups. Where Gilmore and Gomory's order is optimal it is the
    only one, and of groupings with the same work the first."""
    of = candidates(problem)
    groupings = _with_work(problem, of, of.uniform + of.ramps)
    if problem.depth > 2:
        return _by_rules(problem, of, groupings, _RULES | {"exhaustive": exhaustive})
    distinct: dict[tuple[Work, ...], _Grouping] = {}
    for places, work in groupings:
        distinct.setdefault(tuple(sorted(work)), (places, work))
    return _by_rules(problem, of, tuple(distinct.values()), {"gilmore_gomory": gilmore_gomory})


PLANNERS: Mapping[str, Planner] = {
    **{name: _uniform(name) for name in _RULES},
    "exhaustive": _exhaustive,
    "best": _best,
}
