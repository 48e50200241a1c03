"""Random orthogonal matrices that cost little to apply: signs, then a Kronecker product of small factors.

A size is cut into its odd part and a power of two: the odd part gets a random orthogonal matrix, the power of two a
Hadamard matrix as two factors of about equal size. So n = 2,048 takes 96 products an element instead
of 2,048, and every output still mixes all n inputs.
"""

import dataclasses
import math

import numpy as np


@dataclasses.dataclass(frozen=True)
class Orthogonal:
    """R = diag(signs) @ (factors[0] (x) factors[1] (x) ...), orthogonal, [n,n]. signs [n] of -1 and 1."""

    signs: np.ndarray
    factors: tuple[np.ndarray, ...]

    def apply(self, x: np.ndarray) -> np.ndarray:
        """x [...,n] float32 -> x @ R."""
        sizes = [len(factor) for factor in self.factors]
        turned = (x * self.signs).reshape(-1, *sizes)
        for axis, factor in enumerate(self.factors, 1):
            turned = np.moveaxis(np.tensordot(turned, factor, axes=(axis, 0)), -1, axis)
        return np.ascontiguousarray(turned.reshape(x.shape), np.float32)

    def apply_to_rows(self, x: np.ndarray) -> np.ndarray:
        """x [n,...] float32 -> R^T @ x."""
        return np.ascontiguousarray(np.moveaxis(self.apply(np.moveaxis(x, 0, -1)), -1, 0))


def random_orthogonal(size: int, rng: np.random.Generator) -> Orthogonal:
    """A Orthogonal of that size; seeds decide."""
    power = size & -size
    odd = size // power
    low = 1 << (power.bit_length() // 2)
    factors = [hadamard(power // low), hadamard(low)] if low > 1 else [hadamard(power)]
    if odd > 1:
        orthogonal, triangular = np.linalg.qr(rng.standard_normal((odd, odd)))
        factors.insert(0, (orthogonal * np.sign(np.diag(triangular))).astype(np.float32))
    return Orthogonal(rng.choice(np.array([-1, 1], np.float32), size), tuple(factors))


def hadamard(size: int) -> np.ndarray:
    """[size,size] float32, symmetric, entries +-1 / sqrt(size) (Sylvester). size: a power of two."""
    matrix = np.ones((1, 1))
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return (matrix / math.sqrt(size)).astype(np.float32)
