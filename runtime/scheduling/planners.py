"""From a problem to its schedule: which planners there are, and the best of them."""

from collections.abc import Callable, Iterable, Mapping

from shadowattn.runtime.scheduling.bounds import bound_of
from shadowattn.runtime.scheduling.exhaustive import MAX_GROUPS, exhaustive
from shadowattn.runtime.scheduling.gilmore_gomory import gilmore_gomory
from shadowattn.runtime.scheduling.grouping import Grouping, ramps, uniform
from shadowattn.runtime.scheduling.orders import Rule, fifo, greedy, johnson
from shadowattn.runtime.scheduling.problem import Problem, work_of
from shadowattn.runtime.scheduling.schedule import Schedule, schedule_of
from shadowattn.runtime.scheduling.timing import makespan

Planner = Callable[[Problem], Schedule]
_RULES: dict[str, Rule] = {"fifo": fifo, "greedy": greedy, "johnson": johnson, "gilmore_gomory": gilmore_gomory}


def plan(problem: Problem, planner: str = "best") -> Schedule:
    """The schedule of that planner. Raises ValueError for an unknown planner, or a problem that it cannot plan."""
    if planner not in PLANNERS:
        raise ValueError(f"planner {planner!r} is unknown; there are {', '.join(PLANNERS)}")
    return PLANNERS[planner](problem)


def _by_rules(problem: Problem, groupings: Iterable[Grouping], rules: Mapping[str, Rule]) -> Schedule:
    """The shortest schedule of these groupings; the first among equals. Groupings whose bound is no shorter than what
    was found already are left out."""
    works = [(groups, work_of(problem, groups)) for groups in groupings]
    bounded = sorted(((bound_of(work, problem.depth), index) for index, (_, work) in enumerate(works)))
    best, found = float("inf"), None
    for bound, index in bounded:
        groups, work = works[index]
        for name, rule in rules.items():
            if bound >= best:
                break
            if name == "exhaustive" and len(groups) > MAX_GROUPS:
                continue
            order = rule(work, problem.depth)
            seconds = makespan([work[place] for place in order], problem.depth)
            if seconds < best:
                best, found = seconds, (tuple(groups[place] for place in order), name)
    if found is None:
        raise ValueError(f"no grouping has at most {MAX_GROUPS} groups to try all orders of; use another planner")
    return schedule_of(problem, *found)


def _uniform(rule: str) -> Planner:
    """One rule on the groupings of one number of fused heads each: the outer level chooses that number."""
    return lambda problem: _by_rules(problem, uniform(problem), {rule: _RULES[rule]})


def _candidates(problem: Problem) -> list[Grouping]:
    return [*uniform(problem), *ramps(problem)]


def _exhaustive(problem: Problem) -> Schedule:
    return _by_rules(problem, _candidates(problem), {"exhaustive": exhaustive})


def _best(problem: Problem) -> Schedule:
    """Every rule on every grouping. All orders are tried only where Gilmore and Gomory's is not optimal already."""
    rules = _RULES if problem.depth <= 2 else _RULES | {"exhaustive": exhaustive}
    return _by_rules(problem, _candidates(problem), rules)


PLANNERS: Mapping[str, Planner] = {
    **{name: _uniform(name) for name in _RULES},
    "exhaustive": _exhaustive,
    "best": _best,
}
