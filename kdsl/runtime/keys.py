"""The content key of compiled code: the IR that it was made from, the target, and the tools.

Source locations are not part of it: an artifact's tables refer to the n-th place of the IR it was made from,
and are resolved against the IR at hand. So an edit above a kernel neither costs a compilation nor leaves old
line numbers in messages.
"""

from __future__ import annotations

import hashlib

from kdsl.ir.instructions import content
from kdsl.ir.nodes import Func, Loop
from kdsl.ir.places import Places
from kdsl.ir.printer import print_func
from kdsl.ir.walk import stmts
from kdsl.runtime.cache import DiskCache
from kdsl.runtime.fingerprint import environment
from kdsl.target import Target


def code_key(func: Func, places: Places, target: Target, variant: str, cache: DiskCache | None) -> str:
    """The cache key of `func`, as the front end built it, on `target`; `variant`: what else is asked for."""
    marks = [s.mark for s in stmts(func.body) if isinstance(s, Loop) and s.mark is not None]
    named = dict.fromkeys([content(m.instruction) for m in marks if m.instruction is not None])
    parts = (
        print_func(func),
        *named,
        repr(func.options),
        places.pattern,
        target.fingerprint,
        variant,
        *environment(cache),
    )
    return "code-" + hashlib.sha256("\0".join(parts).encode()).hexdigest()
