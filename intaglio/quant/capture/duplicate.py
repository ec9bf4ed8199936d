"""A copy of a user's module that shares no parameter, buffer or flag with it.

`copy.deepcopy` stops at the first thing that cannot be copied, and users keep such things on their
modules: a config that is a Python module, a logger, a lock, an open file, a result of the last
forward. None of them is the network's. So modules are copied here attribute by attribute, whatever
their own `__deepcopy__` says, and what cannot be copied is shared.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from types import MethodType
from typing import Any, TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)
Memo = dict[int, Any]
PLAIN = (type(None), bool, int, float, complex, str, bytes)


def duplicate(module: M) -> M:
    """The copy. What two places share in `module`, they share in it."""
    made: M = duplicated(module, {})
    return made


def duplicated(value: Any, memo: Memo) -> Any:
    """A value that a module keeps, copied once. `memo` is as `copy.deepcopy` has it."""
    if isinstance(value, PLAIN):
        return value
    if id(value) in memo:
        return memo[id(value)]
    made: Any
    if isinstance(value, nn.Module) and not isinstance(value, torch.jit.ScriptModule):
        made = memo[id(value)] = object.__new__(type(value))
        for name, each in vars(value).items():
            made.__dict__[name] = duplicated(each, memo)
    elif isinstance(value, torch.Tensor) and not value.is_leaf:
        made = value.detach().clone()  # of a computation, which torch does not copy
    elif type(value) in (dict, OrderedDict):
        made = memo[id(value)] = type(value)()
        for key, each in value.items():
            made[key] = duplicated(each, memo)
    elif type(value) is list:
        made = memo[id(value)] = []
        made += [duplicated(each, memo) for each in value]
    elif type(value) in (tuple, set, frozenset):
        made = type(value)(duplicated(each, memo) for each in value)
    elif isinstance(value, MethodType):
        made = MethodType(value.__func__, duplicated(value.__self__, memo))
    else:
        made = copied(value, memo)
    memo[id(value)] = made
    memo.setdefault(id(memo), []).append(value)  # alive as long as its number is in the memo
    return made


def copied(value: Any, memo: Memo) -> Any:
    """As `copy.deepcopy` has it; the thing itself where it has none."""
    known = dict(memo)
    alive = known.setdefault(id(known), [])
    try:
        made = copy.deepcopy(value, known)
    except Exception:  # of whatever kind the user's own attributes are
        return value
    del known[id(known)]
    memo.update(known)
    memo.setdefault(id(memo), []).extend(alive)
    return made
