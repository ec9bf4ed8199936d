"""torch.export's graph run node by node: what each node gives, and which of them share memory."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree as pytree

BATCH = 2  # images of a run: tells the batch from dimensions of size 1

Memory = Mapping[fx.Node, frozenset[int]]
See = Callable[[fx.Node, Any], None]


class Replay(fx.Interpreter):
    """One run of an exported graph, after which `memory` says in which pieces of memory each node's
    value lies. Nodes with a piece in common are views of each other or one tensor: what is written
    to one is seen in the other.

    Only a real run tells. Dropout outside training returns its input itself, and `contiguous` and
    `reshape` copy or do not copy as the strides are; the shapes that export notes hide both. `see`
    is given each node and its value.
    """

    def __init__(self, exported: ExportedProgram, see: See | None = None) -> None:
        super().__init__(exported.graph_module)
        self.memory: dict[fx.Node, frozenset[int]] = {}
        self.see = see
        self.pieces: dict[int, StorageWeakRef] = {}  # held, so that no number is given twice

    def run_node(self, n: fx.Node) -> Any:
        """The node's value."""
        if "_assert_tensor_metadata" in str(n.target):
            return None  # the types of export's own run: one in double is meant to differ
        value = super().run_node(n)
        tensors = [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]
        self.memory[n] = frozenset(self.piece(t) for t in tensors if t.layout is torch.strided)
        if self.see is not None:
            self.see(n, value)
        return value

    def piece(self, tensor: torch.Tensor) -> int:
        """The number of the memory that a tensor lies in."""
        reference = StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]  # torch's
        self.pieces.setdefault(reference.cdata, reference)
        return int(reference.cdata)


def replay(
    exported: ExportedProgram,
    constants: Mapping[fx.Node, torch.Tensor],
    x: torch.Tensor,
    see: See | None = None,
) -> Memory:
    """Run the graph on `x` (2, C, H, W), in its type.

    `constants` are the values of the other placeholders. They are copied: the graph may write to
    them.
    """
    copies = copied(constants)
    given = []
    for node in exported.graph.nodes:
        if node.op == "placeholder":
            value = copies.get(node, x)
            given.append(value.to(x.dtype, copy=value is x) if value.is_floating_point() else value)
    run = Replay(exported, see)
    with torch.no_grad():
        run.run(*given)
    return run.memory


def copied(constants: Mapping[fx.Node, torch.Tensor]) -> dict[fx.Node, torch.Tensor]:
    """The same values in other memory; those that shared memory share it again."""
    return dict(zip(constants, copy.deepcopy(list(constants.values())), strict=True))
