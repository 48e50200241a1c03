"""Rounding that compensates: each column's rounding error is passed on to the columns not yet rounded.

For a linear layer with inputs X [T,n] the error of rounding a weight row w to q is (w - q) H (w - q)^T with the second
moments H = X^T X. Columns are rounded one after another; the best correction of the rest follows from the inverse of H
(GPTQ, arXiv 2210.17323; Optimal Brain Surgeon before it). tests/converter/gptq_oracle.py does it column by column
without any of the shortcuts here: the Cholesky factor of the inverse instead of an inverse per column, and blocks.
"""

import numpy as np
import torch

from shadowattn.converter.recipes import StoredWeight, row_scales

DAMPING = 0.05  # of the mean of H's diagonal, added to it
_BLOCK = 64
_ROWS_AT_ONCE = 8192  # of an embedding: it is the largest weight of a model
_TRIES = 6


def moments(inputs: torch.Tensor) -> torch.Tensor:
    """inputs [...,n] float32 -> X^T X [n,n]."""
    rows = inputs.reshape(-1, inputs.shape[-1])
    return rows.T @ rows


def round_to_int8(weight: np.ndarray, second_moments: torch.Tensor, damping: float = DAMPING) -> StoredWeight:
    """weight [rows,n] float32, second_moments [n,n] -> INT8 in -127..127 with scale = max|row| / 127, as plain rounding
    has it. Works in the precision of second_moments. Raises ValueError if they are not finite."""
    if not bool(torch.isfinite(second_moments).all()):
        raise ValueError("calibration: a layer computes NaN or infinity; get the model's weights again")
    scale = row_scales(weight)
    order, upper = _inverse_factor(second_moments, damping)
    data = np.empty(weight.shape, np.int8)
    for begin in range(0, len(weight), _ROWS_AT_ONCE):
        rows = slice(begin, begin + _ROWS_AT_ONCE)
        steps = torch.from_numpy(weight[rows] / scale[rows, None])[:, order].to(upper.dtype)
        data[rows, order.numpy()] = _round_rows(steps, upper).to(torch.int8).numpy()
    return StoredWeight(data, scale)


def _round_rows(left: torch.Tensor, upper: torch.Tensor) -> torch.Tensor:
    """left [rows,n] in steps, which is used up -> the integers."""
    rounded = torch.empty_like(left)
    for begin in range(0, left.shape[1], _BLOCK):
        block = slice(begin, min(begin + _BLOCK, left.shape[1]))
        errors = _round_block(left[:, block], rounded[:, block], upper[block, block])
        left[:, block.stop :] -= errors @ upper[block, block.stop :]
    return rounded


def _round_block(left: torch.Tensor, rounded: torch.Tensor, upper: torch.Tensor) -> torch.Tensor:
    """Rounds the columns of a block, correcting within it; returns the errors that those behind it compensate."""
    errors = torch.empty_like(left)
    for column in range(left.shape[1]):
        rounded[:, column] = left[:, column].round().clamp_(-127, 127)
        errors[:, column] = (left[:, column] - rounded[:, column]) / upper[column, column]
        left[:, column + 1 :] -= errors[:, column, None] * upper[column, column + 1 :]
    return errors


def _inverse_factor(second_moments: torch.Tensor, damping: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Order of the columns, the largest inputs first, and U [n,n] upper with (H + damping)^-1 = U^T U in that order.

    A channel that is always zero has nothing to say, and damping keeps it out. More of it is added where the factor
    does not exist in this precision.
    """
    diagonal = second_moments.diagonal()
    order = torch.argsort(diagonal, descending=True, stable=True)
    ordered = second_moments[order][:, order]
    mean = float(diagonal.mean()) or 1.0
    for attempt in range(_TRIES):
        damped = ordered + torch.eye(len(ordered), dtype=ordered.dtype) * (damping * 10**attempt * mean)
        lower, failed = torch.linalg.cholesky_ex(damped)
        if not failed:
            upper, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
        if not failed:
            return order, upper
    raise ValueError("calibration: a layer's inputs cannot be inverted; choose another --calibration_text")
