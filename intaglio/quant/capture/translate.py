"""Calls of torch operations to nodes of a `FloatGraph`, in the order of export's graph.

A name of export's stands for a value that never changes, as in the graph. A call that writes to its
operand (`relu_`, `x[...] = y`, `out=`) makes a new value, which from then on every name of that
memory stands for, since in torch they all see the write. Where a name of that memory holds other
elements than the operand (a part of it, say), the call is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import fx

from intaglio.errors import ModelError
from intaglio.quant.capture.aten import PARTS, REMEDIES, TRANSLATIONS
from intaglio.quant.capture.aten_maps import identity
from intaglio.quant.capture.cutting import Cut, begun, continued, cuts_in, words_of
from intaglio.quant.capture.graph import Conv, Node, Scaled
from intaglio.quant.capture.replay import BATCH, Memory
from intaglio.quant.capture.site import (
    Const,
    Map,
    Scope,
    Site,
    Value,
    module_path,
    operation,
    place,
    source_line,
)

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
SILENT = ("getitem", "_assert_tensor_metadata")
NOWHERE: frozenset[int] = frozenset()
NO_FORM = "it has no integer form; replace it, or return the map before it."
RANDOM = "it must give the same values in every call, not random ones; remove it from forward."
IN_PART = (
    "a map must not be written to in part; compute the parts apart and join them by torch.cat, or"
    " multiply and add constants per channel."
)


class FinalError(ModelError):
    """Of a call that no cut may begin with."""


class Translation:
    """The values that the nodes of `graph` stand for, and the nodes that they become in `scope`.

    `values` begins with those of the placeholders. `memory` says which nodes share memory. `made`
    is the map that each node stands for at first, before later calls write to it. `missing` are the
    calls behind a cut; a `lenient` translation cuts at anything, and goes on behind layers too.
    """

    def __init__(
        self, graph: fx.Graph, memory: Memory, values: Mapping[fx.Node, Value], scope: Scope,
        *, lenient: bool = False,
    ) -> None:  # fmt: skip
        self.order = {node: number for number, node in enumerate(graph.nodes)}
        self.memory, self.values, self.scope = memory, dict(values), scope
        self.made = {node: value for node, value in values.items() if isinstance(value, Map)}
        self.lenient = lenient
        self.missing: list[fx.Node] = []
        self.refusal: ModelError | None = None  # why the first of them is

    def call(self, node: fx.Node) -> None:
        """Translate one call, or cut it. Raises ModelError where it has no integer form and is no
        decoding."""
        known = isinstance(node.target, torch._ops.OpOverload)
        args: Any = bind(node, self.values) if known else self.python_arguments(node)
        value: Value
        try:
            if cuts_in(args):
                value = continued(node, args, lenient=self.lenient)
            else:
                value = self.operation(node, args) if known else self.python(node, args)
        except ModelError as error:
            if cuts_in(args) or isinstance(error, FinalError):
                raise
            value = begun(node, args, error, lenient=self.lenient)
        if isinstance(value, Cut):
            self.cut(node, value)
        self.values[node] = value
        first = value[0] if isinstance(value, tuple) and value else value
        if isinstance(first, Map):
            self.made[node] = first

    def operation(self, node: fx.Node, args: dict[str, Any]) -> Value:
        """A map, a constant where no operand is a map, or a tuple."""
        result = node.meta.get("val")
        if not any(has_map(v) for v in args.values()):
            if torch.Tag.nondeterministic_seeded in tags(node) and args.get("train") is not False:
                raise refused(node, RANDOM)
            return constant_call(node, self.values)
        written = [a for a in arguments(node) if a.is_write]
        if result is None and not written:
            return None  # an assertion that export wrote down
        first = next(iter(result), None) if isinstance(result, (tuple, list)) else result
        if not isinstance(first, torch.Tensor):
            raise refused(node, NO_FORM)
        origin, is_layer = module_path(node)
        op = operation(node)
        name = origin if is_layer else f"{origin}.{op}".lstrip(".")
        read = {k: v for k, v in args.items() if k not in {a.name for a in written if a.is_out}}
        site = Site(
            op, origin, source_line(node), self.scope.unique(name), read, node.target,
            tuple(first.shape), self.scope,
        )  # fmt: skip
        translation = TRANSLATIONS.get(op)
        if op == "slice" and is_whole(first, read["self"]):  # x[:]
            translation = identity
        elif op in PARTS and self.is_written(node):
            raise FinalError(str(site.refuse(IN_PART)))
        if translation is None:
            raise site.refuse(self.remedy(node, op))
        if first.dtype not in FLOATS:
            kind = str(first.dtype).removeprefix("torch.")
            raise site.refuse(
                f"a map must stay in floating point, not become {kind}; remove the cast, or return"
                " the map before it."
            )
        with np.errstate(all="ignore"):  # what is not finite is refused
            made = self.placed(site, translation(site))
        for number, argument in enumerate(written):
            self.write(site, node, argument.name, made[number] if isinstance(made, tuple) else made)
        return made

    def placed(self, site: Site, value: Value) -> Value:
        """New nodes join the graph and become maps."""
        if isinstance(value, tuple):
            return tuple(self.placed(site, v) for v in value)
        if not isinstance(value, Node):
            return value
        factors = [value.scale, value.shift] if isinstance(value, Scaled) else []
        if isinstance(value, Conv):
            factors.append(self.scope.weights[value.weight])
        if not all(np.isfinite(f).all() for f in factors):
            raise FinalError(
                str(
                    site.refuse(
                        "its factors must be finite, not NaN or infinite; check its parameters, and"
                        " what they are divided by."
                    )
                )
            )
        self.scope.nodes[value.output] = value
        return Map(value.output, value.shape, len(site.result) == 2)

    def result(self, node: Any) -> Value:
        """A result of the model: a map, made where torch sees another one so; what is rearranged
        for decoding is cut."""
        value: Value = fx.map_arg(node, self.values.__getitem__)
        if not isinstance(value, Map) or value.view is None:
            return value
        site = Site("output", "", "", self.scope.unique("result"), {}, None, (), self.scope)
        try:
            self.made[node] = made = site.settled(value)
        except ModelError as error:
            cut = Cut(error, (value.name,), softmax=False)
            self.cut(node, cut)
            return cut
        return made

    def cut(self, node: fx.Node, value: Cut) -> None:
        """A call is missing; so is what it wrote, under every name of that memory."""
        self.missing.append(node)
        self.refusal = self.refusal or value.refusal
        for argument in arguments(node):
            target = given(node, argument.name) if argument.is_write else None
            if isinstance(target, fx.Node):
                self.values |= {n: value for n in self.values if self.share(n, target)}
                self.values[target] = value

    def words(self, gone: Sequence[str]) -> tuple[str, ...]:
        """What is cut, in the order of the graph: what is missing, and what made these tensors."""
        lost = {node for node, made in self.made.items() if made.name in gone}
        lost |= {node for node in self.missing if operation(node) not in SILENT}
        return tuple(words_of(node) for node in self.order if node in lost)

    # --- writes -------------------------------------------------------------------------------

    def write(self, site: Site, node: fx.Node, argument: str, made: Value) -> None:
        """After a call that wrote to an operand: let the names of that memory stand for what it
        made, as far as they are read any more."""
        target = given(node, argument)
        if not isinstance(target, fx.Node) or not isinstance(made, Map):
            raise site.refuse(NO_FORM)
        old, self.values[target] = self.values[target], made
        if torch.Tag.inplace_view in tags(node):
            return  # the same elements, in another shape for this name alone
        for name in list(self.values):
            read = any(self.order[user] > self.order[node] for user in name.users)
            if read and name is not target and self.share(name, target):
                self.values[name] = self.follows(site, self.values[name], old, made)

    def share(self, a: fx.Node, b: fx.Node) -> bool:
        """Whether two nodes have memory in common."""
        return not self.memory.get(a, NOWHERE).isdisjoint(self.memory.get(b, NOWHERE))

    def follows(self, site: Site, value: Value, old: Value, made: Map) -> Value:
        """A value of the memory that held `old` and holds `made` now."""
        if isinstance(value, tuple):
            return tuple(None if v is None else self.follows(site, v, old, made) for v in value)
        same = isinstance(value, Map) and isinstance(old, Map) and value.name == old.name
        if same and value.view == old.view:
            return replace(value, name=made.name)
        if isinstance(value, Const) and isinstance(old, Const) and same_elements(value, old):
            return made
        raise FinalError(str(site.refuse(IN_PART)))

    def remedy(self, node: fx.Node, op: str) -> str:
        """What to do instead of an operation that has no translation."""
        if torch.Tag.nondeterministic_seeded in tags(node):
            return RANDOM
        return REMEDIES.get(op, NO_FORM)

    def is_written(self, node: fx.Node) -> bool:
        """Whether a call writes to the memory of a part of a map through `node`."""
        for user in node.users:
            if any(a.is_write and given(user, a.name) is node for a in arguments(user)):
                return True
            if self.share(user, node) and self.is_written(user):
                return True
        return False

    # --- calls that are no operation on maps --------------------------------------------------

    def python_arguments(self, node: fx.Node) -> list[Any]:
        """What a call of Python is given."""
        if node.op == "get_attr":
            return []
        return [fx.map_arg(each, self.values.__getitem__) for each in node.args]

    def python(self, node: fx.Node, args: list[Any]) -> Value:
        """`getitem` of an operation with several results; checks that export adds are constant."""
        if node.op == "get_attr":
            return None  # the body of torch.autocast and the like, whose call is refused
        if operation(node) == "getitem" and isinstance(args[0], tuple):
            picked = args[0][args[1]]
            if picked is None and node.users:
                raise ModelError(
                    f"Result {args[1]} of {node.args[0]} must not be used; only values can."
                )
            return picked
        if any(has_map(a) for a in args):
            raise refused(node, REMEDIES.get(operation(node), NO_FORM))
        return constant_call(node, self.values)


def refused(node: fx.Node, sentence: str) -> ModelError:
    """An error that names a call."""
    where = place(module_path(node)[0], source_line(node))
    namespace = "aten." if isinstance(node.target, torch._ops.OpOverload) else ""
    return ModelError(f"{namespace}{operation(node)} in {where}: {sentence}")


def tags(node: fx.Node) -> Any:
    """What torch says of an operation: that it is random, that it changes shapes in place."""
    return getattr(node.target, "tags", ())


def arguments(node: fx.Node) -> Sequence[Any]:
    """The schema's arguments of a call."""
    schema = getattr(node.target, "_schema", None)
    return schema.arguments if schema is not None else ()


def given(node: fx.Node, argument: str) -> Any:
    """What a call is given for an argument, as written in export's graph."""
    for number, each in enumerate(arguments(node)):
        if each.name == argument and number < len(node.args):
            return node.args[number]
    return node.kwargs.get(argument)


def bind(node: fx.Node, values: Mapping[fx.Node, Value]) -> dict[str, Any]:
    """Arguments by their schema names, defaults filled in, nodes replaced by values."""
    bound = {}
    for i, argument in enumerate(arguments(node)):
        default: Any = argument.default_value if argument.has_default_value() else None
        found = node.args[i] if i < len(node.args) else node.kwargs.get(argument.name, default)
        bound[argument.name] = fx.map_arg(found, values.__getitem__)
    return bound


def has_map(value: Value) -> bool:
    """Whether a map is in `value`."""
    if isinstance(value, (tuple, list)):
        return any(has_map(v) for v in value)
    return isinstance(value, Map)


def is_whole(result: torch.Tensor, x: Value) -> bool:
    """Whether a part of a map is all of it, for all images."""
    return isinstance(x, Map) and tuple(result.shape) == (BATCH, *x.shape)


def same_elements(a: Const, b: Const) -> bool:
    """Whether two constants are one piece of memory, in one order."""
    x, y = a.value, b.value
    return (x.data_ptr(), x.shape, x.stride()) == (y.data_ptr(), y.shape, y.stride())


def constant_call(node: fx.Node, values: Mapping[fx.Node, Value]) -> Value:
    """Run a call on constants alone (weight standardisation, folded buffers)."""

    def tensor(n: fx.Node) -> Any:
        value = values[n]
        return value.value if isinstance(value, Const) else value

    assert callable(node.target)
    with torch.no_grad():
        result = node.target(*fx.map_arg(node.args, tensor), **fx.map_arg(node.kwargs, tensor))
    if isinstance(result, torch.Tensor):
        return Const(result)
    if isinstance(result, (tuple, list)):
        return tuple(Const(r) if isinstance(r, torch.Tensor) else r for r in result)
    return result
