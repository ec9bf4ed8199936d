"""Where a network ends: at its last layers, where what is behind them is decoding.

Detectors are written with their decoding: maps are permuted, flattened, joined over levels, given
to a softmax, multiplied by strides. None of it has weights, and little of it an integer form. The
first operation without one begins a cut, and all that depends on it is cut too. A layer among that
ends the attempt: then the first operation is refused, as it is in the middle of the network.

From there the network is followed back to its last layers: what joins or squashes maps for the
decoding alone (a concat, a sigmoid) is cut as well, so that each map keeps a range of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from intaglio.errors import ModelError
from intaglio.quant.capture.graph import Affine, Choose, Concat, Conv, Lookup, Node
from intaglio.quant.capture.replay import BATCH
from intaglio.quant.capture.site import (
    Const,
    Map,
    Scope,
    Value,
    module_path,
    operation,
    place,
    source_line,
)

# What a cut may begin with; anything else that has no integer form is refused at once.
BEGIN = """
    permute transpose t movedim view reshape _unsafe_view view_as reshape_as flatten unflatten
    squeeze unsqueeze expand expand_as repeat cat concat stack softmax _softmax log_softmax
    _log_softmax slice select narrow split split_with_sizes chunk tensor_split unbind index
    index_select gather take_along_dim mul add sub rsub div pow max min amax amin argmax argmin topk
    sort sum mean prod clamp maximum minimum linalg_vector_norm norm
"""
WEIGHED = """
    conv1d conv2d conv3d convolution conv_transpose1d conv_transpose2d conv_transpose3d linear addmm
    batch_norm _native_batch_norm_legit_no_training group_norm layer_norm instance_norm
    native_group_norm native_layer_norm scaled_dot_product_attention lstm gru embedding
"""
DECODING, LAYERS = frozenset(BEGIN.split()), frozenset(WEIGHED.split())
PRODUCTS = ("matmul", "mm", "bmm")  # layers where an operand is constant
SQUASHING = ("sigmoid", "log_sigmoid", "hardsigmoid", "exp", "log", "sqrt", "pow", "tanh",
             "softplus", "square", "reciprocal")  # fmt: skip


@dataclass(frozen=True, eq=False)
class Cut:
    """A value behind the cut: why the first operation is none of a Program's, the tensors that it
    is made of, and whether a softmax is among what made it."""

    refusal: ModelError
    maps: tuple[str, ...]
    softmax: bool


def cuts_in(value: Value) -> list[Cut]:
    """Every value behind the cut in `value`."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        return [cut for each in value for cut in cuts_in(each)]
    return [value] if isinstance(value, Cut) else []


def maps_in(value: Value) -> list[str]:
    """The tensors in `value`, and those that what is cut is made of."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        return [name for each in value for name in maps_in(each)]
    if isinstance(value, Cut):
        return list(value.maps)
    return [value.name] if isinstance(value, Map) else []


def any_flat(value: Value) -> bool:
    """Whether a map in `value` is seen without its rows and columns."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        return any(any_flat(each) for each in value)
    return isinstance(value, Map) and (value.flat or value.view is not None)


def first_tensor(node: fx.Node) -> Any:
    """What export says of a call's first result; nothing of one without tensors."""
    found = node.meta.get("val")
    found = next(iter(found), None) if isinstance(found, (tuple, list)) else found
    return found if isinstance(found, torch.Tensor) and found.ndim else ()


def begun(node: fx.Node, args: Value, refusal: ModelError, *, lenient: bool) -> Cut:
    """The first value of a cut. Raises `refusal` where the operation is none of decoding's, or none
    that leaves each image to itself, unless it is `lenient`."""
    decoding = operation(node) in DECODING or any_flat(args)
    if not (lenient or (decoding and len(first_tensor(node)) == BATCH)):
        raise refusal
    return Cut(refusal, tuple(dict.fromkeys(maps_in(args))), "softmax" in operation(node))


def continued(node: fx.Node, args: Value, *, lenient: bool) -> Cut:
    """A value that depends on what is cut. Raises the cut's refusal where it is a layer's, unless
    it is `lenient`."""
    cuts = cuts_in(args)
    softmax = any(cut.softmax for cut in cuts) or "softmax" in operation(node)
    if not lenient and is_layer(node, args) and not (softmax and is_expectation(args)):
        raise cuts[0].refusal
    return Cut(cuts[0].refusal, tuple(dict.fromkeys(maps_in(args))), softmax)


def is_layer(node: fx.Node, args: Value) -> bool:
    """Whether a call has weights."""
    return operation(node) in LAYERS or (operation(node) in PRODUCTS and bool(constants_in(args)))


def constants_in(args: Value) -> list[Const]:
    """Constant operands that are no numbers."""
    given = args.values() if isinstance(args, Mapping) else args
    return [each for each in given if isinstance(each, Const) and each.value.ndim]


def is_expectation(args: Value) -> bool:
    """Whether the weights have one output: the mean of a distribution over bins, as DFL has it."""
    return all(
        each.value.ndim == 1 or each.value.shape[0] == 1 or each.value.shape[1:].numel() == 1
        for each in constants_in(args)
    )


def words_of(node: fx.Node) -> str:
    """A call that is cut, for people."""
    return f"aten.{operation(node)} in {place(module_path(node)[0], source_line(node))}"


# --- where it ends instead ----------------------------------------------------------------------


def ends(
    names: Sequence[str], results: Sequence[Value], scope: Scope
) -> tuple[dict[str, str], list[str]]:
    """The tensor of each result, and the tensors that were followed back from and are no more.

    A result that was cut becomes the maps that it is made of, in the order in which the network
    computes them: under its own name where there is one, as NAME.0, NAME.1, ... where there are
    several. A map of two results is the first one's.

    Raises ModelError for a result that does not depend on the image, and what the cut refused where
    no layer is left before it.
    """
    nodes = scope.nodes
    needed = {value.name for value in results if isinstance(value, Map)} | before_layers(nodes)
    order = {name: number for number, name in enumerate(nodes)}
    found: dict[str, str] = {}
    gone: list[str] = []
    for name, value in zip(names, results, strict=True):
        if isinstance(value, Map):
            found[name] = value.name
            continue
        if not isinstance(value, Cut):
            raise ModelError(
                f"Result {name!r} of the model must be a map that depends on the image."
            )
        last: set[str] = set()
        for each in value.maps:
            last |= set(last_maps(each, nodes, needed, gone))
        if not any(made_by_layer(each, nodes) for each in last):
            raise value.refusal
        new = sorted(last - set(found.values()), key=order.__getitem__)
        for number, each in enumerate(new):
            found[name if len(new) == 1 else scope.unique(f"{name}.{number}")] = each
    return found, list(dict.fromkeys(gone))


def asked(wanted: Sequence[str], scope: Scope, refusal: ModelError | None) -> dict[str, str]:
    """The tensors that were asked for, by their own names or those of the layers that make them
    last. `refusal` is why the first thing that is missing is. Raises ModelError for unknown names.
    """
    found = {}
    for name in wanted:
        inside = [n.output for n in scope.nodes.values() if is_of(n.origin, name)]
        tensor = name if name in scope.nodes else inside[-1] if inside else None
        if tensor is None:
            known = list(dict.fromkeys(n.origin for n in scope.nodes.values() if n.origin))
            why = f": {refusal}" if refusal else "."
            raise ModelError(
                f"Outputs must be layers of the model, as {', '.join(known[-3:])}, not {name!r};"
                f" what is behind an operation without an integer form is none{why}"
            )
        found[scope.unique(f"{name}.out")] = tensor
    return found


def is_of(origin: str, name: str) -> bool:
    """Whether a module path is a module's or lies in it."""
    return origin == name or origin.startswith(f"{name}.")


def before_layers(nodes: Mapping[str, Node]) -> set[str]:
    """Tensors that some layer depends on."""
    found: set[str] = set()
    for node in reversed(list(nodes.values())):
        if isinstance(node, Conv) or node.output in found:
            found.update(node.inputs)
    return found


def made_by_layer(name: str, nodes: Mapping[str, Node]) -> bool:
    """Whether a layer made the tensor, at some distance."""
    todo, seen = [name], set[str]()
    while todo:
        node = nodes[todo.pop()]
        if isinstance(node, Conv):
            return True
        todo += [each for each in node.inputs if each not in seen]
        seen.update(node.inputs)
    return False


def last_maps(
    name: str, nodes: Mapping[str, Node], needed: set[str], gone: list[str]
) -> Iterable[str]:
    """The tensor itself, or what it joins or squashes for the decoding alone."""
    node = nodes[name]
    if name in needed or not is_decoding(node, nodes):
        return [name]
    gone.append(name)
    return [each for source in node.inputs for each in last_maps(source, nodes, needed, gone)]


def is_decoding(node: Node, nodes: Mapping[str, Node]) -> bool:
    """Whether a node may be decoding: what no network would end in for its own sake."""
    if isinstance(node, Affine):
        return is_decoding(nodes[node.input], nodes)
    squashes = isinstance(node, Lookup) and node.name in SQUASHING
    return squashes or isinstance(node, (Concat, Choose))
