"""What a user can ask of quantisation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from intaglio.errors import ModelError
from intaglio.fixed import Arithmetic
from intaglio.quant.settings.budget import Budget, Widths

Method = Literal["detptq", "lp", "mse", "minmax", "percentile", "kl"]

LOOKUP_BITS = 8  # of the code that a table is indexed by
POWERS = (1.0, 1.5, 2.0, 2.4, 3.0, 4.0, 5.0)


@dataclass(frozen=True, kw_only=True)
class OdolTerms:
    """What the loss is made of; every value is our choice.

    foreground   a candidate (a location, or an anchor) counts if the real-valued network's best
                 score for it, as `decode` ranks it, is at least this.
    by_class     weight of the class term: Kullback-Leibler divergence of each class probability,
                 summed over the classes.
    by_box       weight of the localisation term: (1 - GIoU) of the decoded boxes times the score.
    by_centre    weight of FCOS's centre-ness, or of objectness: its divergence times the score.

    Each image's sum is divided by the sum of its foreground's scores, so that images count alike.
    Raises ModelError where a value is impossible.
    """

    foreground: float = 0.05
    by_class: float = 1.0
    by_box: float = 1.0
    by_centre: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.foreground < 1:
            raise ModelError(f"foreground must be between 0 and 1, not {self.foreground}.")
        weights = (self.by_class, self.by_box, self.by_centre)
        if min(weights) < 0 or max(weights) == 0:
            raise ModelError(f"ODOL's weights must be positive or some of them 0, not {weights}.")


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """How the rounding is trained (docs/reconstruction.md).

    iterations        steps on the whole network, by its outputs.
    block_iterations  steps on each block before, by its results.
    batch             images of a step.
    drop              share of elements that stay real while a block is trained (QDrop); 0: none.
    odol              the whole network is trained by a detector's outputs; False: by their squared
                      error, which needs no detector.
    features          weight of the blocks' results beside the outputs.
    reach             codes of a weight move by so much at most; 1 is AdaRound's; None: anywhere.
    rate              Adam's; `reconstruct.py` says how those of codes, steps and tables follow it.
    augment           train on random variants of the images (`augment.py`), not on them alone.
    seed              of the images' order, variants and drops.

    Raises ModelError where a value is impossible.
    """

    iterations: int = 3000
    block_iterations: int = 0
    batch: int = 32
    drop: float = 0.5
    odol: bool = True
    features: float = 1.0
    reach: int | None = None
    rate: float = 1e-3
    augment: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low in (("iterations", 0), ("block_iterations", 0), ("batch", 1), ("reach", 1)):
            value = getattr(self, name)
            if name == "reach" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise ModelError(f"{name} must be a whole number from {low} on, not {value}.")
        if not 0 <= self.drop < 1:
            raise ModelError(f"drop must be from 0 to below 1, not {self.drop}.")
        if not 0 < self.rate <= 1:
            raise ModelError(f"rate must be above 0 and at most 1, not {self.rate}.")
        if not self.features >= 0:
            raise ModelError(f"features must be at least 0, not {self.features}.")


@dataclass(frozen=True, kw_only=True)
class QuantConfig:
    """Widths, and how ranges are chosen.

    wbits, abits   bits of every convolution's weights (2-8) and of every tensor between layers
                   (2-16). Three kinds of tensor are wider, and the report names them: pixels (8),
                   the code a `Lookup` is indexed by (`table_bits`), and the final maps.
    first_wbits    weights of the convolutions that read the image.
    last_wbits     weights of the convolutions that make the final maps; None: wbits.
    output_bits    codes of the final maps (8-16). The default of 16 costs nothing inside the
                   network, and box distances and logits have long tails. A final map that a later
                   layer reads as well keeps `abits`.
    table_bits     the code that a `Lookup` is indexed by (2-16); None: 8, or abits where that is
                   more. A table has 2^bits entries: each bit doubles its ROM. An override of more
                   bits stands.
    sum_bits       tensors that only sums read, as the branches of a residual block and the laterals
                   of a pyramid; None: abits. Wider ones are named in the report.
    method         "lp": least sum |x - Q(x)|^p over 100 ranges; "detptq": the same, but each layer
                   has its own p, chosen by a detector's outputs; "mse": p = 2; "minmax";
                   "percentile" and "kl" choose activations only, with weights by minmax and mse.
    p              of "lp", and of a "detptq" search's start.
    powers         the p that "detptq" tries, with `p`.
    odol           what "detptq" judges by.
    thorough       "detptq" runs every candidate on every image, five times as many forwards.
    per_channel    one weight scale per output channel, or one per tensor, as always with an
                   `arithmetic.per_layer`.
    symmetric      signed activations have zero point 0, or else any. Activations proved to be
                   non-negative are unsigned with zero point 0 either way.
    pot_scales     all scales are powers of two; implied by `arithmetic.power_of_two`.
    equalize       first move factors between layers so that channels have more equal ranges, which
                   does not change the network (`equalize.py`).
    equalize_tables  with `equalize`, also where a table makes or reads a tensor: it becomes one for
                   each channel, and its ROM as many times as large.
    equalize_noise  with `equalize`, factors by what rounding costs at the results (`noise.py`), not
                   by ranges; through sums and joined and shuffled channels too.
    compensate     round weights so that they make up for each other's errors on the images
                   (`compensate.py`); False: each to its nearest code.
    correct_bias   shift each channel by the mean error that rounding causes on the images.
    reconstruct    train rounding, steps and tables on the images; None: no.
    overrides      {glob over torch module paths: (wbits, abits)}; the first match counts.
    budgets        averages under which mixed precision chooses widths (`mixed.py`), at most one of
                   a kind. Either kind replaces wbits, first_wbits and last_wbits; "bops" also
                   replaces abits of what convolutions read. Overrides stand.
    widths         exact widths of weights and groups of tensors, before all else: what `budgets`
                   lead to.

    Weights use all of [-2^(b-1), 2^(b-1) - 1]: at 2 bits the fourth code matters.
    Raises ModelError when a value is impossible.
    """

    wbits: int = 4
    abits: int = 4
    first_wbits: int = 8
    last_wbits: int | None = None
    output_bits: int = 16
    table_bits: int | None = None
    sum_bits: int | None = None
    method: Method = "lp"
    p: float = 2.4
    powers: tuple[float, ...] = POWERS
    odol: OdolTerms = field(default_factory=OdolTerms)
    thorough: bool = False
    percentile: float = 99.99
    per_channel: bool = True
    symmetric: bool = True
    pot_scales: bool = False
    equalize: bool = False
    equalize_tables: bool = False
    equalize_noise: bool = False
    compensate: bool = True
    correct_bias: bool = True
    reconstruct: Reconstruction | None = None
    overrides: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    budgets: tuple[Budget, ...] = ()
    widths: Widths = field(default_factory=Widths)
    arithmetic: Arithmetic = field(default_factory=Arithmetic)

    def __post_init__(self) -> None:
        _width("wbits", self.wbits, 2, 8)
        _width("abits", self.abits, 2, 16)
        _width("first_wbits", self.first_wbits, 2, 8)
        _width("last_wbits", self.predictor_wbits, 2, 8)
        _width("output_bits", self.output_bits, 8, 16)
        _width("table_bits", LOOKUP_BITS if self.table_bits is None else self.table_bits, 2, 16)
        _width("sum_bits", self.operand_bits, 2, 16)
        for glob, (wbits, abits) in self.overrides.items():
            _width(f"wbits of override {glob!r}", wbits, 2, 8)
            _width(f"abits of override {glob!r}", abits, 2, 16)
        for name, bits in self.widths.weights.items():
            _width(f"width of weight {name!r}", bits, 2, 8)
        for name, bits in self.widths.tensors.items():
            _width(f"width of tensor {name!r}", bits, 2, 16)
        kinds = [budget.kind for budget in self.budgets]
        for kind in kinds:
            if kinds.count(kind) > 1:
                raise ModelError(f"A budget of {kind} must be given once, not {kinds.count(kind)}.")
        if self.method not in get_args(Method):
            names = ", ".join(get_args(Method))
            raise ModelError(f"method must be one of {names}, not {self.method!r}.")
        for p in (self.p, *self.powers):
            if not 0.5 <= p <= 16:
                raise ModelError(f"p must be 0.5 to 16, not {p}.")
        if not 50 < self.percentile <= 100:
            raise ModelError(f"percentile must be above 50 and at most 100, not {self.percentile}.")
        for name in ("equalize_tables", "equalize_noise"):
            if getattr(self, name) and not self.equalize:
                raise ModelError(f"{name} must come with equalize=True, which it extends.")

    @property
    def predictor_wbits(self) -> int:
        """Bits of the weights that make the final maps."""
        return self.wbits if self.last_wbits is None else self.last_wbits

    @property
    def operand_bits(self) -> int:
        """Bits of tensors that only sums read."""
        return self.abits if self.sum_bits is None else self.sum_bits

    @property
    def index_bits(self) -> int:
        """Bits of the code that a table is indexed by."""
        return max(self.abits, LOOKUP_BITS) if self.table_bits is None else self.table_bits

    @property
    def by_channel(self) -> bool:
        """Whether each output channel's weights have a scale of their own."""
        return self.per_channel and not self.arithmetic.per_layer

    @property
    def power_of_two(self) -> bool:
        """Whether scales are powers of two."""
        return self.pot_scales or self.arithmetic.power_of_two


def _width(name: str, bits: int, low: int, high: int) -> None:
    if isinstance(bits, bool) or not isinstance(bits, int) or not low <= bits <= high:
        raise ModelError(f"{name} must be {low} to {high} bits, not {bits}.")
