"""Whether a captured graph computes what its module computes, on random images.

Two right float32 runs of one network differ by rounding: in the order of sums, in how a norm's
factor is made. By how much is the network's own affair: a sum of 4,608 products, a factor of 1e5 or
fifty layers in a row can make anything of 1e-7, so that no fixed tolerance both lets every right
network pass and finds a wrong one. Hence two steps.

1. Results in float32 within `CLOSE` roundings of a channel's largest value are equal. Nearly all
   networks end here (the bundled detectors at 11 roundings, a RetinaNet on ResNet-50 at 63).
2. The others run again in float64, where rounding is half a billion times less, and beside them
   the captured graph with every value disturbed by 4,096 roundings of float64. What may differ is
   `FACTOR` times what that does to a channel. A module that casts to a narrower type itself runs in
   float32, and is disturbed by a few roundings of the narrowest type.

A wrong operation moves a channel by a good part of its size: orders above either.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from intaglio.errors import ModelError
from intaglio.ops import Shape
from intaglio.quant.capture.duplicate import duplicate
from intaglio.quant.capture.execute import compute, run, tensors
from intaglio.quant.capture.graph import FloatGraph, Image
from intaglio.quant.capture.replay import BATCH, replay
from intaglio.quant.capture.site import Map, module_path, operation, place, source_line

CLOSE = 256.0  # roundings of a channel's largest value: 3e-5 of it in float32
FACTOR = 16.0
DOUBLE, NARROW = 4096.0, 4.0  # roundings by which values are disturbed, of float64 and others,
RUNS = 4  # and disturbed copies for the latter: one may end where it began, by chance
CASTS = ("to", "_to_copy", "type_as")


@dataclass(frozen=True, eq=False)
class Origin:
    """What a graph was captured from: a module in eval mode, its export, the values of the
    export's `constants`, the tensor in the graph that each of its nodes became, and images
    (2, C, H, W), as `pixels` in float32 and `normalised` in float64."""

    model: nn.Module
    exported: ExportedProgram
    constants: Mapping[fx.Node, torch.Tensor]
    maps: Mapping[fx.Node, Map]
    pixels: torch.Tensor
    normalised: torch.Tensor


def samples(shape: Shape) -> torch.Tensor:
    """Two images (2, C, H, W) of random pixels, float32: single ones, and blocks of 4 x 4."""
    _, height, width = shape
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (BATCH, *shape), generator=generator)
    rows, columns = torch.arange(height) // 4, torch.arange(width) // 4
    pixels[1] = pixels[1][:, rows][:, :, columns]
    return pixels.float()


def check_agreement(graph: FloatGraph, origin: Origin) -> None:
    """Run both on two images, and on one where the module lets itself be given one.

    Where the graph ends before the module does, it is held against the export there, and the export
    against the module at the end.

    Raises ModelError where they differ beyond rounding. It names the first operation of torch's
    that the graph does not compute, or says in what the module is no function of an image.
    """
    ours = list(run(graph, origin.pixels).values())
    theirs = Exported(graph, origin, torch.float32) if graph.is_cut else None
    ends = ours if theirs is None else theirs.results
    one = [result[:1] for result in ends]
    module = Module(origin.model)
    if (
        (theirs is not None and not agree(theirs.maps, ours))
        or not agree(module(origin.normalised), ends)
        or not agree(module.alone(origin, one), one)
    ):
        second(graph, origin)


class Exported:
    """A run of torch's export: its `results`, each as (N, 1, 1, values), and its `maps` where the
    graph ends."""

    def __init__(self, graph: FloatGraph, origin: Origin, dtype: torch.dtype) -> None:
        self.wanted = {found.name: node for node, found in reversed(list(origin.maps.items()))}
        self.results: list[torch.Tensor] = []
        self.seen: dict[fx.Node, Any] = {}
        self.at = [self.wanted[tensor] for tensor in graph.outputs.values()]
        replay(origin.exported, origin.constants, origin.normalised.to(dtype), self.see)
        self.maps = [self.seen[node] for node in self.at]

    def see(self, node: fx.Node, value: Any) -> None:
        """Keep what is asked for: later nodes may write to it."""
        if node.op == "output":
            self.results = [flat(result) for result in pytree.tree_leaves(value)]
        elif node in self.at:
            first = value[0] if isinstance(value, (tuple, list)) else value
            self.seen[node] = first.clone()


def flat(result: Any) -> torch.Tensor:
    """A result of any type and shape as (N, 1, 1, values)."""
    found = torch.as_tensor(result)
    return (found if found.is_floating_point() else found.double()).reshape(
        len(found) if found.ndim else 1, 1, 1, -1
    )


class Module:
    """A copy of a module, with what it keeps from one call to the next."""

    def __init__(self, model: nn.Module, dtype: torch.dtype = torch.float32) -> None:
        self.model = duplicate(model).to(dtype)
        self.dtype = dtype

    def __call__(self, x: torch.Tensor) -> list[Any]:
        """Its results on images, in order."""
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            # Copies: a module may write to its image, or return what its next call writes to.
            results = pytree.tree_leaves(self.model(x.to(self.dtype, copy=True)))
        return [r.clone() if isinstance(r, torch.Tensor) else r for r in results]

    def alone(self, origin: Origin, like: Sequence[torch.Tensor]) -> list[Any] | None:
        """Its results on the first image, of the sizes of those in `like`; None where it does not
        take one or makes something else of it, as if it were written for two."""
        try:
            results = self(origin.normalised[:1])
        except Exception:  # the user's own code may raise anything
            return None
        sizes = [r.numel() if isinstance(r, torch.Tensor) else 0 for r in results]
        return results if sizes == [r.numel() for r in like] else None


def laid_out(value: Any, made: Map) -> Any:
    """Values of the map that torch's result is a view of, in the map's order."""
    value = value[0] if isinstance(value, (tuple, list)) else value
    if made.view is None or not isinstance(value, torch.Tensor):
        return value
    places = torch.arange(value.numel()).reshape(BATCH, *made.shape).numpy()
    found = torch.empty_like(value.reshape(-1))
    found[torch.from_numpy(made.view.lines(places))] = value.reshape(-1)
    return found.reshape(places.shape)


def check_steady(kind: str, found: Sequence[Any], again: Sequence[Any]) -> None:
    """Raises ModelError where a second call gives something else."""
    if not agree(again, [flat(result) for result in found if isinstance(result, torch.Tensor)]):
        raise ModelError(
            f"{kind} must give the same results for the same images in every call, not others"
            " in the second; remove randomness and what forward keeps for its next call."
        )


# --- first step ---------------------------------------------------------------------------------


def agree(found: Sequence[Any] | None, ours: Sequence[torch.Tensor]) -> bool:
    """Whether all results differ by a few roundings of each channel's largest value. Where neither
    is finite they agree; so does no result."""
    if found is None:
        return True
    return len(found) == len(ours) and all(
        isinstance(a, torch.Tensor) and a.numel() == b.numel() and close(a.reshape(b.shape), b)
        for a, b in zip(found, ours, strict=True)
    )


def close(found: torch.Tensor, ours: torch.Tensor) -> bool:
    """The same of one result (N, C, H, W)."""
    error, size = error_and_size(found, ours)
    return bool((error <= CLOSE * torch.finfo(torch.float32).eps * size).all())


def error_and_size(found: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest difference and the largest finite value (C,) of each channel."""
    same = (found == right) | (~found.isfinite() & ~right.isfinite())
    error = torch.where(same, 0.0, (found - right).abs().nan_to_num(nan=torch.inf))
    size = torch.where(right.isfinite(), right.abs(), 0.0)
    return error.amax(dim=(0, 2, 3)), size.amax(dim=(0, 2, 3))


# --- second step --------------------------------------------------------------------------------


def second(graph: FloatGraph, origin: Origin) -> None:
    """Judge in float64, or in float32 where the module has types of its own."""
    narrowest = narrowest_type(origin)
    if narrowest is None:
        try:
            Beside(graph, origin, torch.float64, 1, DOUBLE * torch.finfo(torch.float64).eps).judge()
        except (RuntimeError, TypeError, ValueError):  # of two types that do not go together
            narrowest = torch.float32
        else:
            return
    unit = torch.finfo(narrowest).eps
    Beside(graph, origin, torch.float32, RUNS, NARROW * unit).judge()


def narrowest_type(origin: Origin) -> torch.dtype | None:
    """That which the module casts values of the image to; None if it casts nothing."""
    types = {node.meta["val"].dtype for node in origin.maps if operation(node) in CASTS}
    return max(types, key=lambda dtype: torch.finfo(dtype).eps, default=None)


class Beside:
    """The graph in float64, computed as far as export's graph has come, with `runs` disturbed
    copies of the images behind them; torch's side computes in `dtype`."""

    def __init__(
        self,
        graph: FloatGraph,
        origin: Origin,
        dtype: torch.dtype,
        runs: int,
        disturbance: float,
    ) -> None:
        self.graph, self.origin, self.dtype, self.disturbance = graph, origin, dtype, disturbance
        self.pixels = origin.pixels.double().repeat(1 + runs, 1, 1, 1)
        self.weights = tensors(graph, torch.float64)
        self.generator = torch.Generator().manual_seed(0)
        self.ahead = iter(graph.nodes)
        self.values: dict[str, torch.Tensor] = {}
        self.first: ModelError | None = None
        # A value goes after its last reader and the last of torch's nodes that gives it.
        self.needed: dict[str, list[Any]] = {name: [None] for name in graph.outputs.values()}
        for reader in graph.nodes:
            for name in dict.fromkeys(reader.inputs):
                self.needed.setdefault(name, []).append(reader)
        for node, found in origin.maps.items():
            self.needed.setdefault(found.name, []).append(node)

    def judge(self) -> None:
        """Raise ModelError for the first difference, if there is one."""
        origin = self.origin
        x = origin.normalised.to(self.dtype)
        replay(origin.exported, origin.constants, x, self.compare)
        if self.first is not None:
            raise self.first
        module, kind = Module(origin.model, self.dtype), type(origin.model).__name__
        if self.graph.is_cut:
            self.judge_ends(module, kind)
            return
        ours = [self.value(name) for name in self.graph.outputs.values()]
        found, again = module(origin.normalised), module(origin.normalised)
        check_steady(kind, found, again)
        if (words := self.first_result(found, BATCH)) is not None:
            raise ModelError(
                f"{kind} must compute what torch.export writes down of it, not {words}; remove"
                " from forward what depends on how it is called."
            )
        alone = module.alone(origin, [result[:1] for result in ours])
        if alone is not None and (words := self.first_result(alone, 1)) is not None:
            raise ModelError(
                f"{kind} must treat each image by itself, not give for a single one {words}; remove"
                " from forward what depends on the number of images."
            )

    def judge_ends(self, module: Module, kind: str) -> None:
        """What is behind the graph's end: the export's results against the module's."""
        found, again = module(self.origin.normalised), module(self.origin.normalised)
        check_steady(kind, found, again)
        theirs = Exported(self.graph, self.origin, self.dtype).results
        if not agree(found, theirs):
            raise ModelError(
                f"{kind} must compute what torch.export writes down of it, not other results;"
                " remove from forward what depends on how it is called."
            )

    def compare(self, node: fx.Node, value: Any) -> None:
        """Hold a node's value against the graph's; the first difference is kept."""
        if node not in self.origin.maps or self.first is not None:
            return
        made = self.origin.maps[node]
        name = made.name
        words = self.difference(laid_out(value, made), self.value(name), BATCH)
        if words is not None:
            self.first = ModelError(
                f"aten.{operation(node)} in {place(module_path(node)[0], source_line(node))}: the"
                f" captured graph must compute what torch does, not {words}; replace the operation,"
                " and report this as a fault of intaglio."
            )
        self.done(name, node)

    def first_result(self, found: Sequence[Any], images: int) -> str | None:
        """In words, the first result that differs for the first `images`."""
        if len(found) != len(self.graph.outputs):
            return f"{len(found)} results instead of {len(self.graph.outputs)}"
        for (result, name), value in zip(self.graph.outputs.items(), found, strict=True):
            words = self.difference(value, self.value(name), images)
            if words is not None:
                return f"{words} in result {result!r}"
        return None

    def difference(self, found: Any, values: torch.Tensor, images: int) -> str | None:
        """In words, by how much the first `images` differ from those of the graph's `values`, if
        that is more than the disturbance explains."""
        found = found[0] if isinstance(found, (tuple, list)) else found
        right = values[:images]
        if not isinstance(found, torch.Tensor) or found.numel() != right.numel():
            return "values of another shape"
        right = right.to(self.dtype).double()  # overflows where torch does
        error, size = error_and_size(found.double().reshape(right.shape), right)
        far = torch.zeros_like(size)
        for disturbed in torch.split(values, BATCH)[1:]:
            moved = (disturbed - values[:BATCH]).abs().nan_to_num(nan=torch.inf)
            far = torch.maximum(far, moved.amax(dim=(0, 2, 3)))
        worse = error > FACTOR * far + self.disturbance * size
        if not worse.any():
            return None
        channel = int(torch.where(worse, error / size.clamp(min=1e-300), 0.0).argmax())
        return f"values that differ by {error[channel]:.3g} where they reach {size[channel]:.3g}"

    def value(self, name: str) -> torch.Tensor:
        """A tensor of the graph, computed if it has not been."""
        while name not in self.values:
            node = next(self.ahead)
            if isinstance(node, Image):
                value = self.pixels
            else:
                inputs = [self.values[source] for source in node.inputs]
                with torch.no_grad():
                    value = self.disturbed(compute(node, inputs, self.weights))
            self.values[node.output] = value
            for source in dict.fromkeys(node.inputs):
                self.done(source, node)
        return self.values[name]

    def disturbed(self, value: torch.Tensor) -> torch.Tensor:
        """All but the first two images moved by a rounding or so."""
        amount = torch.rand(value[BATCH:].shape, generator=self.generator, dtype=value.dtype)
        return torch.cat([value[:BATCH], value[BATCH:] * (1 + self.disturbance * (2 * amount - 1))])

    def done(self, name: str, reader: Any) -> None:
        """Drop a value after its last use."""
        self.needed[name].remove(reader)
        if not self.needed[name]:
            del self.values[name]
