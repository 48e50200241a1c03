"""The paper's budgets: what the loss grows by without a head, times what it grows by without its layer."""

import numpy as np

_KEEP_RATIO = 0.2  # where the paper stands


def paper_budgets(base: float, heads: np.ndarray, layers: np.ndarray, clamp: float) -> np.ndarray:
    """float32 [L,H], mean 1. heads [L,H], layers [L]: loss without it; base: loss with all. clamp: largest importance.

    At the paper's keep_ratio no head may get more than all: what is above goes to the others.
    """
    importance = np.maximum(heads - base, 0.0) * np.maximum(layers - base, 0.0)[:, None]
    clamped = np.minimum(importance, clamp)
    if not clamped.any():
        return np.ones(heads.shape, np.float32)
    return cap(clamped / clamped.mean(), 1 / _KEEP_RATIO).astype(np.float32)


def cap(budgets: np.ndarray, most: float) -> np.ndarray:
    """Budgets of mean 1, none above `most`: the excess goes to the others in proportion to what they have."""
    for _ in range(budgets.size):
        above = budgets >= most
        excess = (budgets[above] - most).sum()
        rest = budgets[~above].sum()
        budgets = np.where(above, most, budgets * (1 + excess / rest) if rest > 0 else budgets)
        if excess <= 0 or rest <= 0:
            break
    return budgets
