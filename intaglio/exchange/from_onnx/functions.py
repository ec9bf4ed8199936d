"""Functions of one value, in the precision of what they are given.

In float32 they are onnxruntime's to the bit where it adds, multiplies, divides, compares or takes
roots (LeakyRelu, PRelu, HardSwish, HardSigmoid, Abs, Sqrt), and where it has Eigen's rational
functions (Sigmoid, Tanh), on x86 with FMA. Its other exponentials (Exp, Elu, Softplus) are
polynomials that depend on the processor, right to about one unit in the last place; here they are
float64's, rounded once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.exchange.from_onnx.onnx_file import Node

Array = NDArray[Any]

FUNCTIONS = (
    "Sigmoid",
    "HardSigmoid",
    "HardSwish",
    "LeakyRelu",
    "PRelu",
    "Tanh",
    "Exp",
    "Elu",
    "Softplus",
    "Sqrt",
    "Abs",
)

# Coefficients of x^n from the highest down: Eigen's generic_fast_tanh_float and, of x / 2, logistic
# (Eigen/src/Core/MathFunctionsImpl.h, arch/Default/GenericPacketMathFunctions.h); onnxruntime's
# core/mlas/lib/logistic.cpp and tanh.cpp name the same ones.
LOGISTIC = (
    18.0,
    (4.37031012579801e-11, 1.15627324459942e-07, 6.08574864600143e-05, 8.51377133304701e-03,
     2.48287947061529e-01),
    (6.10247389755681e-13, 5.76102136993427e-09, 6.29106785017040e-06, 1.70198817374094e-03,
     1.16817656904453e-01, 9.93151921023180e-01),
)  # fmt: skip
TANH = (
    9.0,
    (-2.76076847742355e-16, 2.00018790482477e-13, -8.60467152213735e-11, 5.12229709037114e-08,
     1.48572235717979e-05, 6.37261928875436e-04, 4.89352455891786e-03),
    (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03),
)  # fmt: skip


def rational(x: Array, limit: float, odd: Sequence[float], even: Sequence[float]) -> Any:
    """x * p(x^2) / q(x^2) of x within [-limit, limit], in float32 with fused multiply-adds.

    Sums are float64's rounded to float32: twice, where the 29 bits between are just a half.
    """
    one = np.float32
    x = np.clip(x, one(-limit), one(limit))
    square = x * x

    def polynomial(coefficients: Sequence[float]) -> Any:
        total = np.full_like(x, one(coefficients[0]))
        for c in coefficients[1:]:
            fused = total.astype(np.float64) * square + np.float64(one(c))
            total = fused.astype(np.float32)
        return total

    return polynomial(odd) * x / polynomial(even)


def tabulate(node: Node, x: Array, slope: Array | None = None) -> Array:
    """The node's function of every x, of x's type. `slope` are PRelu's: (1,), or (C, 1), with which
    the result has a row for each channel."""
    made: Array = np.asarray(function_of(node, x, slope), dtype=x.dtype)
    return made


def function_of(node: Node, x: Array, slope: Array | None) -> Any:
    """The same, of a type that NumPy chooses."""
    a = node.attributes
    one, single = x.dtype.type, x.dtype == np.float32

    def number(name: str, default: float) -> Any:
        return one(np.float32(a.get(name, default)))

    def whole(y: Array) -> Any:
        return y.astype(x.dtype)

    real = x.astype(np.float64)
    match node.kind:
        case "Sigmoid":
            if single:
                return np.clip(rational(x, *LOGISTIC) + one(0.5), one(0), one(1))
            return 1 / (1 + np.exp(-real))
        case "Tanh":
            return rational(x, *TANH) if single else np.tanh(real)
        case "Exp":
            with np.errstate(over="ignore"):
                return whole(np.exp(real))
        case "Elu":
            return np.where(x < 0, number("alpha", 1.0) * whole(np.expm1(np.minimum(real, 0))), x)
        case "Softplus":
            return whole(np.logaddexp(0, real))
        case "HardSigmoid":
            return np.minimum(np.maximum(number("alpha", 0.2) * x + number("beta", 0.5), 0), 1)
        case "HardSwish":  # a HardSigmoid of alpha 1/6, and a product
            return x * np.minimum(np.maximum(x * one(1 / 6) + one(0.5), 0), 1)
        case "LeakyRelu":
            return np.where(x < 0, number("alpha", 0.01) * x, x)
        case "PRelu":
            assert slope is not None
            return np.where(x < 0, slope.astype(x.dtype) * x, x)
        case "Sqrt":
            return np.sqrt(np.maximum(x, 0))
        case _:
            return np.maximum(x, -x)
