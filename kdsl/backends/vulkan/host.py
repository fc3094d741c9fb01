"""The host program of a kernel: which dispatches a call needs, for its sizes and scalars. Knows no device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from kdsl.dtypes import DType, bool_, by_name, i64
from kdsl.ir.interpreter_exprs import ExprCompiler, Frame
from kdsl.ir.parser_exprs import ExprParser
from kdsl.source import syntax_tree

Eval = Callable[[Frame], Any]
Step = Callable[[Frame], Iterator["Command"]]


class Command(NamedTuple):
    """One dispatch: the entry's number, its work-groups along x, y, z, its parameters as bytes."""

    entry: int
    groups: tuple[int, int, int]
    parameters: bytes


class HostProgram:
    """The program, the extents and the conditions of a manifest, ready to be evaluated.

    Expressions are those of the IR's printer; sizes and variables of loops are i64, scalars have the types
    that `scalars` says.
    """

    def __init__(
        self, manifest: Mapping[str, Any], sizes: Sequence[str], scalars: Mapping[str, DType]
    ) -> None:
        self._parser = ExprParser("", "", scope={**dict.fromkeys(sizes, i64), **scalars})
        self._compiler = ExprCompiler()
        self._inputs = [self._compiler.name(name) for name in (*sizes, *scalars)]
        self._sequence = self._compiler.fresh()
        self._fields = manifest["parameters"]["fields"]
        self._parameter_bytes: int = manifest["parameters"]["bytes"]
        self._entries = manifest["entries"]
        self._conditions = [self._expr(text, bool_) for text in manifest.get("conditions", ())]
        self._shapes = {
            b["name"]: [self._expr(text, i64) for text in b.get("shape", ())] for b in manifest["buffers"]
        }
        self._run = self._steps(manifest["program"])

    def frame(self, values: Sequence[Any]) -> Frame:
        """What the other methods take, for the values of the sizes and then the scalars (Python numbers)."""
        frame: Frame = [None] * self._compiler.slots
        for slot, value in zip(self._inputs, values):
            frame[slot] = value
        return frame

    def failing(self, frame: Frame) -> int:
        """The number (1-based) of the first condition that does not hold, or 0."""
        return next((n for n, holds in enumerate(self._conditions, 1) if not holds(frame)), 0)

    def shape(self, buffer: str, frame: Frame) -> tuple[int, ...]:
        """The extents of a buffer, none below 0."""
        return tuple([max(extent(frame), 0) for extent in self._shapes[buffer]])

    def commands(self, frame: Frame) -> Iterator[Command]:
        """The dispatches in order; those without work-groups are left out. Uses up `frame`."""
        frame[self._sequence] = 0
        return self._run(frame)

    # -- closures of expressions and steps

    def _expr(self, text: str, dtype: DType) -> Eval:
        return self._compiler.expr(self._parser.expr(syntax_tree(text, "eval").body, dtype))

    @contextmanager
    def _variable(self, name: str) -> Iterator[int]:
        """A slot for a host loop's variable, known by its name meanwhile."""
        self._parser.scope[name] = i64
        yield self._compiler.name(name)
        del self._parser.scope[name], self._compiler.scope[name]

    def _steps(self, steps: Sequence[Mapping[str, Any]]) -> Step:
        made = [self._step(s) for s in steps]

        def run(frame: Frame) -> Iterator[Command]:
            for step in made:
                yield from step(frame)

        return made[0] if len(made) == 1 else run

    def _step(self, step: Mapping[str, Any]) -> Step:
        if "dispatch" in step:
            return self._dispatch(step["dispatch"])
        if "if" in step:
            cond = self._expr(step["if"], bool_)
            then, orelse = self._steps(step["then"]), self._steps(step.get("else", ()))
            return lambda frame: then(frame) if cond(frame) else orelse(frame)
        lo, hi, by = [self._expr(step[key], i64) for key in ("lo", "hi", "step")]
        with self._variable(step["for"]) as slot:
            body = self._steps(step["do"])

        def loop(frame: Frame) -> Iterator[Command]:
            for i in range(lo(frame), hi(frame), by(frame)):
                frame[slot] = i
                yield from body(frame)

        return loop

    def _dispatch(self, number: int) -> Step:
        x, y, z = [self._expr(text, i64) for text in self._entries[number]["groups"]]
        parts = [self._packer(f) for f in self._fields if self._known(f)]
        size, sequence = self._parameter_bytes, self._sequence

        def dispatch(frame: Frame) -> Iterator[Command]:
            groups = x(frame), y(frame), z(frame)
            if min(groups) > 0:
                parameters = bytearray(size)
                for pack in parts:
                    pack(frame, parameters)
                frame[sequence] += 1
                yield Command(number, groups, bytes(parameters))

        return dispatch

    def _known(self, f: Mapping[str, Any]) -> bool:
        """Whether a field has a value here: not the variable of a loop elsewhere."""
        return f["kind"] == "sequence" or f["name"] in self._parser.scope

    def _packer(self, f: Mapping[str, Any]) -> Callable[[Frame, bytearray], None]:
        """Writes a field's value to its place."""
        slot = self._sequence if f["kind"] == "sequence" else self._compiler.slot(f["name"])
        offset, dtype = f["offset"], by_name(f["dtype"]).np
        end = offset + dtype.itemsize

        def pack(frame: Frame, parameters: bytearray) -> None:
            parameters[offset:end] = np.asarray(frame[slot]).astype(dtype).tobytes()

        return pack
