"""The C-level entry of a kernel: checks a call's arguments, fills the frame, runs the kernel.

    ptr @name.entry(ptr self, ptr args, i64 nargs, ptr kwnames)     METH_FASTCALL | METH_KEYWORDS
      no keywords, right number of arguments
      array:   exactly ndarray, this descriptor, this rank, aligned (contiguous, writeable)
      scalar:  exactly float, int, bool or this NumPy scalar type, in range
      sizes:   solved from the shapes by `binding_plan`, all others compared; each < 2**47
      written arrays: no cell twice, and outside the byte range of every other array
      @name.check(frame)
      release the GIL when the estimated work is above some 5 us; @name(frame); return None

`self` is the tuple (slow, on_fault, ...). Whatever does not fit goes to `slow(*args, **kwargs)`, which does
everything again and has the good errors; so a test here may refuse too much, never too little. A fault calls
`on_fault(code, index, extent)`, which raises; at a stop the signal handler's exception is set already.

Offsets are those of CPython >= 3.11 with a GIL and of NumPy's public `PyArrayObject_fields`
(numpy/ndarraytypes.h); `layout_holds` verifies them. Addresses of types and functions are symbols that the
loader resolves (`symbols.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from kdsl.backends.base import FrameLayout
from kdsl.backends.llvm.arith import Arith
from kdsl.backends.llvm.builder import LIKELY, Builder, ModuleText
from kdsl.backends.llvm.expressions import Expressions
from kdsl.backends.llvm.layout import (
    ALIGNED,
    ARRAY_DATA,
    ARRAY_DESCR,
    ARRAY_FLAGS,
    ARRAY_ND,
    ARRAY_SHAPE,
    ARRAY_STRIDES,
    C_CONTIGUOUS,
    OB_TYPE,
    OBJECT_VALUE,
    TUPLE_ITEMS,
    WRITEABLE,
)
from kdsl.backends.llvm.locals import parallel_loops
from kdsl.backends.llvm.types import memory_type
from kdsl.backends.llvm.work import emit_work
from kdsl.dtypes import DType, Size, f64, i64
from kdsl.ir.binding import Bind, binding_plan
from kdsl.ir.nodes import ArrayParam, Func, ScalarParam

ScalarForm = Literal["any", "python", "numpy"]
"""What a scalar parameter takes without the slow path: "python", the Python number of its dtype's kind;
"numpy", the NumPy scalar of its dtype; "any", both, and an int for a float."""

RELEASE_ABOVE = 16384.0
"""Estimated work (expression nodes, some 0.3 ns each) above which the GIL is released."""

_SLOW = "slow"


def emit_entry(
    module: ModuleText, func: Func, symbol: str, features: frozenset[str], forms: Mapping[str, ScalarForm]
) -> None:
    """Adds `@symbol.entry` and the variable `@symbol.table` (address of the run-time table)."""
    assert can_have_entry(func)
    module.globals.append(f"@{symbol}.table = global ptr null, align 8")
    module.globals.append('@kdsl.format = private unnamed_addr constant [4 x i8] c"LLL\\00", align 1')
    for declaration in (
        f"i64 @{symbol}.check(ptr)",
        "ptr @PyObject_Vectorcall(ptr, ptr, i64, ptr)",
        "ptr @PyObject_CallFunction(ptr, ptr, ...)",
        "ptr @PyEval_SaveThread()",
        "void @PyEval_RestoreThread(ptr)",
        "void @Py_IncRef(ptr)",
    ):
        module.declare(declaration)
    b = Builder(module, f"ptr @{symbol}.entry(ptr %self, ptr %args, i64 %nargs, ptr %kwnames)")
    arith = Arith(b, features, strict=True, fastmath=False)
    x = Expressions(b, arith, lambda kind, text, dim, loc: 0)
    _Entry(b, arith, x, func, symbol, forms).emit()
    module.functions.append(b.finish_with((), _ending(module)))


def can_have_entry(func: Func) -> bool:
    """Whether an entry can make this call: the shapes give all sizes.

    Results are arguments of the entry like others; its caller has made them, of the right shape.
    """
    return not binding_plan(func.params, func.sizes).unsolved


def _ending(module: ModuleText) -> list[str]:
    none = external(module, "kdsl.py.None")
    return [
        "done:",
        f"  call void @Py_IncRef(ptr {none})",
        f"  ret ptr {none}",
        "failed:",
        "  %stopped = icmp eq i64 %code, -1",
        "  br i1 %stopped, label %raise, label %fault",
        "raise:",
        "  ret ptr null",
        "fault:",
        f"  %handler.slot = getelementptr i8, ptr %self, i64 {TUPLE_ITEMS + 8}",
        "  %handler = load ptr, ptr %handler.slot, align 8",
        "  %index = load i64, ptr %frame, align 8",
        "  %extent.slot = getelementptr i8, ptr %frame, i64 8",
        "  %extent = load i64, ptr %extent.slot, align 8",
        "  %raised = call ptr (ptr, ptr, ...) @PyObject_CallFunction(ptr %handler, ptr @kdsl.format, "
        "i64 %code, i64 %index, i64 %extent)",
        "  ret ptr %raised",
        f"{_SLOW}:",
        f"  %slow.slot = getelementptr i8, ptr %self, i64 {TUPLE_ITEMS}",
        "  %slow.path = load ptr, ptr %slow.slot, align 8",
        "  %answer = tail call ptr @PyObject_Vectorcall(ptr %slow.path, ptr %args, i64 %nargs, ptr %kwnames)",
        "  ret ptr %answer",
    ]


def external(module: ModuleText, name: str) -> str:
    """A symbol whose address is that of a Python object in the process."""
    line = f"@{name} = external global i8"
    if line not in module.globals:
        module.globals.append(line)
    return f"@{name}"


@dataclass(frozen=True, slots=True)
class _Array:
    """What an entry knows of one array argument: names of i64 values, strides in bytes."""

    param: ArrayParam
    data: str
    shape: tuple[str, ...]
    strides: tuple[str, ...]


@dataclass(slots=True)
class _Entry:
    b: Builder
    arith: Arith
    x: Expressions
    func: Func
    symbol: str
    forms: Mapping[str, ScalarForm]
    _pending: str = ""

    def emit(self) -> None:
        """The whole path of a call that fits."""
        b, func = self.b, self.func
        layout = FrameLayout.of(func)
        b.do(f"%frame = getelementptr i8, ptr {b.alloca(f'[{layout.slots} x i64]', 16)}, i64 0")
        self._need(b.value("icmp eq ptr %kwnames, null"))
        self._need(b.value(f"icmp eq i64 %nargs, {len(func.params)}"))
        self._decide()
        given = [self._load("ptr", "%args", 8 * number) for number in range(len(func.params))]
        for p, arg in zip(func.params, given):
            if isinstance(p, ArrayParam):
                self._is_type(arg, "kdsl.numpy.ndarray")
        self._decide()
        for p, arg in zip(func.params, given):
            if isinstance(p, ArrayParam):
                self._kind_of_array(p, arg)
        self._decide()
        arrays: dict[int, _Array] = {}
        for number, (p, arg, slot) in enumerate(zip(func.params, given, layout.params)):
            if isinstance(p, ArrayParam):
                arrays[number] = self._array(p, arg, slot)
            else:
                self._scalar(p, arg, slot)
        self._sizes(arrays, dict(zip(func.sizes, layout.sizes)))
        self._aliasing(list(arrays.values()))
        self._decide()
        table = b.value(f"load ptr, ptr @{self.symbol}.table, align 8")
        b.do(f"store ptr {table}, ptr {self._at('%frame', 16)}, align 8")
        if func.conditions:
            self._need(b.value(f"icmp eq i64 {b.value(f'call i64 @{self.symbol}.check(ptr %frame)')}, 0"))
            self._decide()
        self._run()

    # -- one argument

    def _kind_of_array(self, p: ArrayParam, arg: str) -> None:
        b, rank = self.b, len(p.shape)
        descr = external(b.module, f"kdsl.numpy.descr.{p.dtype.name}")
        self._need(b.value(f"icmp eq ptr {self._load('ptr', arg, ARRAY_DESCR)}, {descr}"))
        self._need(b.value(f"icmp eq i32 {self._load('i32', arg, ARRAY_ND, 4)}, {rank}"))
        wanted = ALIGNED | (C_CONTIGUOUS if p.contiguous else 0) | (WRITEABLE if p.written else 0)
        flags = b.value(f"and i32 {self._load('i32', arg, ARRAY_FLAGS, 4)}, {wanted}")
        self._need(b.value(f"icmp eq i32 {flags}, {wanted}"))

    def _array(self, p: ArrayParam, arg: str, slot: int) -> _Array:
        """What the sizes and addresses follow from; `arg` is an array of the right rank."""
        rank = len(p.shape)
        data = self._load("i64", arg, ARRAY_DATA)
        self._put(slot, "i64", data)
        shape: tuple[str, ...] = ()
        strides: tuple[str, ...] = ()
        if rank:
            dims = self._load("ptr", arg, ARRAY_SHAPE)
            shape = tuple([self._load("i64", dims, 8 * d) for d in range(rank)])
        if rank and not p.contiguous:
            steps = self._load("ptr", arg, ARRAY_STRIDES)
            strides = tuple([self._load("i64", steps, 8 * d) for d in range(rank)])
            for d, stride in enumerate(strides):
                self._put(slot + 1 + d, "i64", stride)
        return _Array(p, data, shape, strides)

    def _scalar(self, p: ScalarParam, arg: str, slot: int) -> None:
        """Tries the accepted types one after the other; the last failure is the slow path's."""
        b, form, t = self.b, self.forms.get(p.name, "any"), p.dtype
        stored = b.fresh("stored")
        tries: list[tuple[str, str]] = []
        if form != "numpy":
            if t.is_float:
                tries.append(("kdsl.py.float", "float"))
            if t.is_int or (t.is_float and form == "any"):
                tries.append(("kdsl.py.int", "int"))
        if form != "python" and t.kind != "bool" and t.name != "bf16":
            tries.append((f"kdsl.numpy.scalar.{t.name}", "numpy"))
        if t.kind == "bool":
            self._bool(arg, slot)
            return
        self._decide()
        if not tries:
            b.br(_SLOW)
            b.block(stored)
            return
        kind = self._load("ptr", arg, OB_TYPE)
        for n, (type_name, how) in enumerate(tries):
            same = b.value(f"icmp eq ptr {kind}, {external(b.module, type_name)}")
            take = b.fresh("take")
            other = b.fresh("other") if n + 1 < len(tries) else _SLOW
            b.cbr(same, take, other)
            b.block(take)
            if how == "numpy":
                self._put(slot, memory_type(t), self._load(memory_type(t), arg, OBJECT_VALUE, t.bytes))
            elif how == "float":
                self._put_value(slot, t, self.arith.cast(self._load("double", arg, OBJECT_VALUE), f64, t))
            else:
                self._put_value(slot, t, self._int(arg, t))
                self._decide()
            b.br(stored)
            if other != _SLOW:
                b.block(other)
        b.block(stored)

    def _bool(self, arg: str, slot: int) -> None:
        b = self.b
        yes = b.value(f"icmp eq ptr {arg}, {external(b.module, 'kdsl.py.True')}")
        no = b.value(f"icmp eq ptr {arg}, {external(b.module, 'kdsl.py.False')}")
        self._need(b.value(f"or i1 {yes}, {no}"))
        self._put(slot, "i8", b.value(f"zext i1 {yes} to i8"))

    def _int(self, arg: str, t: DType) -> str:
        """The value of an exact int, which must fit: in `t`, or exactly in a double."""
        b = self.b
        over = b.alloca("i32", 4)
        number = b.call("i64", "PyLong_AsLongLongAndOverflow", ("ptr", arg), ("ptr", over))
        self._need(b.value(f"icmp eq i32 {b.value(f'load i32, ptr {over}, align 4')}, 0"))
        low, high = (-(2**53), 2**53) if t.is_float else (t.min, min(t.max, i64.max))
        self._need(b.value(f"icmp sge i64 {number}, {low}"))
        self._need(b.value(f"icmp sle i64 {number}, {high}"))
        if t.is_float:
            return self.arith.cast(self.arith.cast(number, i64, f64), f64, t)
        return self.arith.cast(number, i64, t)

    # -- all arguments together

    def _sizes(self, arrays: dict[int, _Array], slots: dict[str, int]) -> None:
        b = self.b
        for step in binding_plan(self.func.params, self.func.sizes).steps:
            extent = arrays[step.param].shape[step.dim]
            if not isinstance(step, Bind):
                self._need(b.value(f"icmp eq i64 {extent}, {self._affine(step.expr)}"))
                continue
            size = extent
            if step.rest.terms or step.rest.const:
                size = b.value(f"sub i64 {size}, {self._affine(step.rest)}")
            if step.coefficient != 1:
                rest = b.value(f"srem i64 {size}, {step.coefficient}")
                self._need(b.value(f"icmp eq i64 {rest}, 0"))
                size = b.value(f"sdiv i64 {size}, {step.coefficient}")
            self._need(b.value(f"icmp ult i64 {size}, {1 << 47}"))
            self.x.vars[step.size] = size
            self._put(slots[step.size], "i64", size)

    def _affine(self, size: Size) -> str:
        """The value of an affine size: below 2**63 for sizes below 2**47 and any sane coefficient."""
        total = str(size.const)
        for symbol, coefficient in size.terms.items():
            term = self.b.value(f"mul i64 {self.x.vars[symbol]}, {coefficient}")
            total = self.b.value(f"add i64 {total}, {term}")
        return total

    def _aliasing(self, arrays: list[_Array]) -> None:
        b = self.b
        may = self.func.options.may_alias
        ranges = [self._byte_range(a) for a in arrays]
        for n, a in enumerate(arrays):
            if a.param.written and a.strides:
                self._no_cell_twice(a)
            for m in range(n):
                other = arrays[m]
                if not (a.param.written or other.param.written):
                    continue
                if a.param.name in may and other.param.name in may:
                    continue
                after = b.value(f"icmp uge i64 {ranges[n][0]}, {ranges[m][1]}")
                before = b.value(f"icmp uge i64 {ranges[m][0]}, {ranges[n][1]}")
                self._need(b.value(f"or i1 {after}, {before}"))

    def _byte_range(self, a: _Array) -> tuple[str, str]:
        """First address and the one behind the last; of an empty array anything near."""
        b = self.b
        size = str(a.param.dtype.bytes)
        if not a.strides:
            for extent in a.shape:
                size = b.value(f"mul i64 {size}, {extent}")
            return a.data, b.value(f"add i64 {a.data}, {size}")
        low, high = a.data, b.value(f"add i64 {a.data}, {size}")
        for extent, stride in zip(a.shape, a.strides):
            reach = b.value(f"mul i64 {b.value(f'sub i64 {extent}, 1')}, {stride}")
            low = b.value(f"add i64 {low}, {b.call('i64', 'llvm.smin.i64', ('i64', reach), ('i64', '0'))}")
            high = b.value(f"add i64 {high}, {b.call('i64', 'llvm.smax.i64', ('i64', reach), ('i64', '0'))}")
        return low, high

    def _no_cell_twice(self, a: _Array) -> None:
        """Each dimension steps over the whole of those inside it, in C order or in Fortran order."""
        b = self.b
        dims = list(range(len(a.shape)))
        verdicts = []
        for order in (reversed(dims), dims):
            span, ok = str(a.param.dtype.bytes), "true"
            for d in order:
                stride = b.call("i64", "llvm.abs.i64", ("i64", a.strides[d]), ("i1", "false"))
                many = b.value(f"icmp ugt i64 {a.shape[d]}, 1")
                clear = b.value(f"icmp uge i64 {stride}, {span}")
                fits = b.value(f"select i1 {many}, i1 {clear}, i1 true")
                ok = b.value(f"and i1 {ok}, {fits}")
                whole = b.value(f"mul i64 {stride}, {a.shape[d]}")
                span = b.value(f"select i1 {many}, i64 {whole}, i64 {span}")
            verdicts.append(ok)
        self._need(b.value(f"or i1 {verdicts[0]}, {verdicts[1]}"))

    def _run(self) -> None:
        """Runs the kernel, without the GIL when it may take long or has work for other threads."""
        b = self.b
        shared = any(True for _ in parallel_loops(self.func.body))
        work = None if shared else emit_work(self.x, self.func.body)
        if work is None:
            state = b.value("call ptr @PyEval_SaveThread()")
            b.named("code", f"call i64 @{self.symbol}(ptr %frame)")
            b.do(f"call void @PyEval_RestoreThread(ptr {state})")
        else:
            save, run, restore, ran = (b.fresh(n) for n in ("save", "run", "restore", "ran"))
            before = b.label
            b.cbr(b.value(f"fcmp ogt double {work}, {RELEASE_ABOVE}"), save, run)
            b.block(save)
            state = b.value("call ptr @PyEval_SaveThread()")
            b.br(run)
            b.block(run)
            held = b.value(f"phi ptr [ null, %{before} ], [ {state}, %{save} ]")
            b.named("code", f"call i64 @{self.symbol}(ptr %frame)")
            b.cbr(b.value(f"icmp eq ptr {held}, null"), ran, restore)
            b.block(restore)
            b.do(f"call void @PyEval_RestoreThread(ptr {held})")
            b.br(ran)
            b.block(ran)
        b.cbr(b.value("icmp eq i64 %code, 0"), "done", "failed", LIKELY)

    # -- small change

    def _need(self, ok: str) -> None:
        """Notes what must hold, so that one branch decides about many tests."""
        self._pending = self.b.value(f"and i1 {self._pending}, {ok}") if self._pending else ok

    def _decide(self) -> None:
        """Goes on when all that was noted holds, else to the slow path. What follows may rely on it."""
        if not self._pending:
            return
        ok, self._pending = self._pending, ""
        go = self.b.fresh("go")
        self.b.cbr(ok, go, _SLOW, LIKELY)
        self.b.block(go)

    def _is_type(self, arg: str, name: str) -> None:
        kind = self._load("ptr", arg, OB_TYPE)
        self._need(self.b.value(f"icmp eq ptr {kind}, {external(self.b.module, name)}"))

    def _at(self, base: str, offset: int) -> str:
        return base if offset == 0 else self.b.value(f"getelementptr i8, ptr {base}, i64 {offset}")

    def _load(self, ty: str, base: str, offset: int, align: int = 8) -> str:
        return self.b.value(f"load {ty}, ptr {self._at(base, offset)}, align {align}")

    def _put(self, slot: int, ty: str, value: str) -> None:
        self.b.do(f"store {ty} {value}, ptr {self._at('%frame', 8 * slot)}, align 8")

    def _put_value(self, slot: int, t: DType, value: str) -> None:
        self._put(slot, memory_type(t), self.arith.to_memory(t, value))
