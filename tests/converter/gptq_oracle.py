"""Rounding that compensates, the slow way: after each column, the inverse of what is left of H is computed anew."""

import numpy as np


def round_rows(weight: np.ndarray, second_moments: np.ndarray, damping: float) -> tuple[np.ndarray, np.ndarray]:
    """weight [rows,n], second_moments [n,n], both float64 -> data int8 [rows,n], scale [rows]."""
    largest = np.abs(weight).max(axis=1)
    scale = np.where(largest > 0, largest / 127, 1.0)
    order = np.argsort(-np.diag(second_moments), kind="stable")
    hessian = second_moments + damping * (np.diag(second_moments).mean() or 1.0) * np.eye(len(second_moments))
    left = weight / scale[:, None]
    data = np.zeros(weight.shape, np.int8)
    for number, column in enumerate(order):
        rest = order[number:]
        inverse = np.linalg.inv(hessian[np.ix_(rest, rest)])
        data[:, column] = np.clip(np.rint(left[:, column]), -127, 127)
        error = left[:, column] - data[:, column]
        left[:, rest] -= np.outer(error / inverse[0, 0], inverse[0])
    return data, scale
