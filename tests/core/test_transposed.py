"""Transposed convolutions against their definition: every input pixel adds a scaled kernel."""

from __future__ import annotations

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from intaglio.fixed import IntType
from intaglio.ops import Conv2d, Input, Ints, Output
from intaglio.program import Builder
from intaglio.sim.reference import run
from intaglio.transposed import phases

pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


def scattered(
    x: Ints, weight: Ints, result: tuple[int, int], stride: tuple[int, int],
    before: tuple[int, int], dilation: tuple[int, int], groups: int,
) -> Ints:  # fmt: skip
    """Of one image (C, H, W); what falls outside the result is lost."""
    cin, each, kh, kw = weight.shape
    y = np.zeros((each * groups, *result), np.int64)
    for c, i, j, ky, kx in np.ndindex(cin, *x.shape[1:], kh, kw):
        at = (i * stride[0] + ky * dilation[0] - before[0],
              j * stride[1] + kx * dilation[1] - before[1])  # fmt: skip
        first = c // (cin // groups) * each
        if 0 <= at[0] < result[0] and 0 <= at[1] < result[1]:
            y[first : first + each, *at] += x[c, i, j] * weight[c, :, ky, kx]
    return y


@given(
    st.tuples(st.integers(1, 5), st.integers(1, 5)), pairs, pairs, pairs,
    st.tuples(st.integers(0, 4), st.integers(0, 4)), st.tuples(st.integers(-4, 3),
    st.integers(-4, 3)), st.sampled_from([(2, 3, 1), (4, 1, 2), (3, 1, 3)]),
)  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_every_sum_is_that_of_the_definition(
    kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int],
    size: tuple[int, int], before: tuple[int, int], more: tuple[int, int],
    channels: tuple[int, int, int],
) -> None:  # fmt: skip
    """Results of any size, beyond what the kernels reach too."""
    whole = [(n - 1) * s + d * (k - 1) + 1
             for n, s, d, k in zip(size, stride, dilation, kernel, strict=True)]  # fmt: skip
    result = (whole[0] - before[0] + more[0], whole[1] - before[1] + more[1])
    assume(min(result) > 0)
    cin, each, groups = channels
    rng = np.random.default_rng(1)
    weight = rng.integers(-9, 10, (cin, each, *kernel))
    x = rng.integers(0, 256, (1, cin, *size))
    made = phases(weight, size, result, stride, before, dilation=dilation, groups=groups)
    b = Builder()
    name = b.add(Input(output="x", shape=(cin, *size), type=IntType(8, False)))
    conv = Conv2d(output="acc", input=name, weight=b.constant("w", made.weight),
                  padding=made.padding, groups=made.groups)  # fmt: skip
    name = b.add(conv)
    for k, op in enumerate(made.behind):
        name = b.add(type(op)(**{**vars(op), "output": f"t{k}", "input": name}))
    b.add(Output(output="y", input=name))
    got = run(b.build(), x).tensors["y"]
    np.testing.assert_array_equal(
        got[0], scattered(x[0], weight, result, stride, before, dilation, groups)
    )
    assert [weight.shape[1] * groups > c for c in made.repeated] == [True] * len(made.weight)


def test_a_kernel_of_the_stride_s_size_is_one_by_one() -> None:
    made = phases(np.ones((3, 2, 2, 2), np.int64), (4, 5), (8, 10), (2, 2), (0, 0))
    assert made.weight.shape == (8, 3, 1, 1)
    assert made.padding == (0, 0, 0, 0)
    assert [type(op).__name__ for op in made.behind] == ["DepthToSpace"]
