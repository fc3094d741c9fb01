"""Calls on a device that are like one before: known by the kinds of their arguments, sent at once.

Launching a small kernel takes 20 µs; looking at its arguments again would double that. What a `call_key`
tells (types, shapes, strides, the values of scalars) need not be looked at twice: sizes, conditions and
limits follow from it. Whether arrays overlap does not, and is tested in each call.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from kdsl.runtime.device_array import DeviceArray, empty

if TYPE_CHECKING:
    from kdsl.backends.vulkan.plan import Plan
    from kdsl.runtime.program import New
    from kdsl.runtime.vulkan_executor import VulkanExecutor

Pairs = tuple[tuple[int, int], ...]
KEPT = 256
"""How many kinds of calls one kernel remembers."""


def call_key(args: Sequence[Any]) -> Hashable:
    """What is to be known of a call's arguments but for the elements of arrays and where they lie; None where
    there is an argument of another type."""
    key: list[Any] = []
    for x in args:
        t = type(x)
        if t is DeviceArray:
            key.append(x.kind)
        elif t is np.ndarray:
            key.append((x.dtype, x.shape, x.strides, x.flags.num))
        elif t is float:
            key.append((t, x or repr(x)))  # 0.0 and -0.0 are two
        elif t is int or t is bool or t is str:
            key.append((t, x))
        else:
            return None
    return tuple(key)


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """A call that went well, to be done again with arguments of the same kinds.

    `arrays`: for each array of the kernel, in its order, the argument's number, or -1 - n for result number
    n, whose shape and dtype are in `results`. `pairs`: arguments that may not overlap. `finish` makes
    the call's value of the results. It is called with as many arguments as the call before.
    """

    executor: VulkanExecutor
    key: tuple[Any, ...]
    plan: Plan
    arrays: tuple[int, ...]
    pairs: Pairs
    results: tuple[tuple[tuple[int, ...], Any], ...]
    on_device: bool
    finish: Callable[[Sequence[Any]], Any]

    def __call__(self, args: Sequence[Any]) -> tuple[bool, Any]:
        """(True, the call's value), or (False, None) when the arguments have to be looked at."""
        for m, n in self.pairs:
            a, b = args[m], args[n]
            if type(a) is DeviceArray and type(b) is DeviceArray:
                if a.memory is b.memory:
                    return False, None
            elif type(a) is not DeviceArray and type(b) is not DeviceArray and np.may_share_memory(a, b):
                return False, None
        executor = self.executor
        if not self.results:
            executor.send(self.key, self.plan, [args[n] for n in self.arrays])
            return True, self.finish(())
        new: New = partial(empty, executor.executable.device) if self.on_device else np.empty
        made = [new(shape, dtype) for shape, dtype in self.results]
        executor.send(self.key, self.plan, [args[n] if n >= 0 else made[-1 - n] for n in self.arrays])
        return True, self.finish(made)
