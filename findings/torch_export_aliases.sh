#!/bin/sh
# One would have guessed: torch.export notes of every value in its graph (node.meta["val"]) on which
# storage it lies, so that these notes tell which names an in-place call changes.
#
# Seen with torch 2.13.0, in eval mode:
#  - x.detach() has the storage of x in the notes and in a run of the graph.
#  - dropout(x) has a storage of its own in the notes; in a run of the same graph it is x itself, so
#    that relu_(dropout(x)) changes x.
# So whoever follows writes by the notes gives x its old value. Only a run tells.
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import torch
from torch import nn


class Block(nn.Module):
    def forward(self, x):
        y = x * 1
        kept = nn.functional.dropout(y, 0.5, self.training)
        view = y.detach()
        nn.functional.relu_(kept)
        return y, kept, view


class Watch(torch.fx.Interpreter):
    def run_node(self, node):
        value = super().run_node(node)
        if isinstance(value, torch.Tensor):
            seen[node.name] = value.untyped_storage().data_ptr()
        return value


seen = {}
exported = torch.export.export(Block().eval(), (torch.zeros(2, 3),))
Watch(exported.graph_module).run(torch.randn(2, 3))
noted = {
    node.name: node.meta["val"].untyped_storage()._cdata
    for node in exported.graph.nodes
    if isinstance(node.meta.get("val"), torch.Tensor)
}
rows = [(name, noted[name] == noted["mul"], seen[name] == seen["mul"]) for name in ("detach", "dropout")]
print("torch", torch.__version__)
for name, by_notes, in_truth in rows:
    print(f"{name} shares the memory of its operand: noted {by_notes}, run {in_truth}")
y, kept, _ = exported.module()(torch.tensor([[-1.0, 2.0, -3.0], [1.0, -2.0, 3.0]]))
print("the operand after relu_ of the dropout:", y.flatten().tolist())
expected = [("detach", True, True), ("dropout", False, True)]
sys.exit(rows != expected or bool((y < 0).any()))
PYTHON
