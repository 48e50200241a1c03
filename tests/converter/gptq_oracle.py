"""Rounding that compensates, the slow way: after each column, the inverse of what is left of H is computed anew."""

import numpy as np


def round_rows(steps: np.ndarray, second_moments: np.ndarray, damping: float) -> np.ndarray:
    """steps [rows,n]: weights over their row's scale; second_moments [n,n]; both float64 -> int8 [rows,n]."""
    order = np.argsort(-np.diag(second_moments), kind="stable")
    hessian = second_moments + damping * (np.diag(second_moments).mean() or 1.0) * np.eye(len(second_moments))
    left = steps.copy()
    data = np.zeros(steps.shape, np.int8)
    for number, column in enumerate(order):
        rest = order[number:]
        inverse = np.linalg.inv(hessian[np.ix_(rest, rest)])
        data[:, column] = np.clip(np.rint(left[:, column]), -127, 127)
        error = left[:, column] - data[:, column]
        left[:, rest] -= np.outer(error / inverse[0, 0], inverse[0])
    return data
