"""The slow oracle of pages that a row does not score, in NumPy (docs/algorithm.md, step 2): which they are, and how the
margins are learnt from rows that score everything. float32 operation by operation as in the op, so counts are exact."""

import numpy as np

from shadowattn.models.oracle.steps import PAGE

FEWEST_PAGES = 16  # full ones of a row, below which it scores them all
SKIP_MARGINS = (4, 5, 5.5, 6, 6.5, 7, 7.5, 8, 8.5, 9, 9.5, 10, 11, 12, 14, 16)  # logits
BLOCK = 256  # positions that share their margins
_EVERY = 16
_SAMPLES_BACK = 256
_UNSAMPLED_LOSS = 32768  # 65535ths: half of a row's mass
_LANES = 16


def is_sampled(position: int) -> bool:
    """Whether the row at that position scores all its pages, and notes what it could have lost."""
    return position % _EVERY == _EVERY // 2


def skippable_pages(length: int, sinks: int, latest: int) -> range:
    """Pages that a row of that length may leave out."""
    return range(-(-max(sinks, 1) // PAGE), max(0, length - max(latest, PAGE)) // PAGE)


def units(margin: float, step: np.float32) -> int:
    """A margin in units of the scores, each worth `step` logits."""
    with np.errstate(divide="ignore"):
        return int(min(np.float32(margin) / step, np.float32(2**30)))


def page_sums32(weights: np.ndarray, skip: int) -> np.ndarray:
    """float32 [pages]: sums of float32 weights from position `skip` on, in the kernels' order: 16 lanes over a page,
    added within fours and then the fours."""
    pages = np.zeros(-(-len(weights) // PAGE) * PAGE, np.float32)
    pages[skip : len(weights)] = weights[skip:]
    lanes = np.zeros((len(pages) // PAGE, _LANES), np.float32)
    for block in pages.reshape(-1, PAGE // _LANES, _LANES).transpose(1, 0, 2):
        lanes = lanes + block
    first, second, third, fourth = lanes.reshape(-1, 4, 4).transpose(2, 0, 1)
    fours = (first + third) + (second + fourth)
    return (fours[:, 0] + fours[:, 1]) + (fours[:, 2] + fours[:, 3])


def skip_losses(bounds: np.ndarray, sums: np.ndarray, free: range, step: np.float32) -> np.ndarray:
    """uint16 [margins]: the share of a row's mass that each margin would lose, in 65535ths. bounds [full pages], sums
    [pages]: of the row; free: what it may leave out."""
    mass = np.float32(0)
    for of_page in sums:
        mass = np.float32(mass + of_page)
    lost = np.zeros(len(SKIP_MARGINS), np.float32)
    cuts = np.array([int(bounds.max()) - units(margin, step) for margin in SKIP_MARGINS])
    for page in free:
        lost = lost + np.where(bounds[page] < cuts, sums[page], np.float32(0)).astype(np.float32)
    return (np.minimum(lost / mass, np.float32(1)) * np.float32(65534)).astype(np.uint16)


class SkipMargins:
    """The skip-loss samples of one layer, by head and position."""

    def __init__(self) -> None:
        self._lost: dict[tuple[int, int], np.ndarray] = {}

    def add_sample(self, head: int, position: int, lost: np.ndarray) -> None:
        self._lost[head, position] = lost

    def margin(self, head: int, position: int, share: float) -> float:
        """For the rows of the block that holds the position: the least margin that lost at most `share` on average over
        the blocks before it, and half a row's mass besides; infinite where no margin did, or with too few samples."""
        end = position // BLOCK * BLOCK
        begin = end - _SAMPLES_BACK * _EVERY
        samples = [lost for (of, at), lost in self._lost.items() if of == head and begin <= at < end]
        if not samples:
            return float("inf")
        total: list[int] = np.stack(samples).astype(np.int64).sum(axis=0).tolist()
        most = share * 65535 * len(samples)
        good = [margin for margin, lost in zip(SKIP_MARGINS, total, strict=True) if lost + _UNSAMPLED_LOSS <= most]
        return float(good[0]) if good else float("inf")
