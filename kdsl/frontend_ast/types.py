"""Types of values: a dtype that is strong, or weak as Python's own numbers are (NEP 50)."""

from __future__ import annotations

from dataclasses import dataclass

from kdsl.dtypes import DType, bf16, bool_, f32, f64, i8, i64, promote


@dataclass(frozen=True, slots=True)
class Ty:
    """`weak`: a Python bool, int or float; then `dtype` is bool_, i64 or f64."""

    dtype: DType
    weak: bool = False

    def __str__(self) -> str:
        return (
            {"bool": "bool", "int": "int", "float": "float"}[self.dtype.kind]
            if self.weak
            else self.dtype.name
        )


WEAK_BOOL = Ty(bool_, True)
WEAK_INT = Ty(i64, True)
WEAK_FLOAT = Ty(f64, True)
BOOL = Ty(bool_)

_RANK = {"bool": 0, "int": 1, "uint": 1, "float": 2}


def of_python(value: bool | int | float) -> Ty:
    """The weak type of a Python number."""
    if isinstance(value, bool):
        return WEAK_BOOL
    return WEAK_INT if isinstance(value, int) else WEAK_FLOAT


def join(a: Ty, b: Ty) -> Ty:
    """The type that holds both, as NumPy 2 promotes: a weak number takes the other's type if that is of
    its kind or a higher one. bf16 with a Python float is f32, as `ml_dtypes` has it."""
    if a == b:
        return a
    ra, rb = _RANK[a.dtype.kind], _RANK[b.dtype.kind]
    if a.weak and b.weak:
        return a if ra >= rb else b
    if a.weak or b.weak:
        weak, strong = (a, b) if a.weak else (b, a)
        if weak == WEAK_FLOAT and strong.dtype == bf16:
            return Ty(f32)
        if _RANK[weak.dtype.kind] <= _RANK[strong.dtype.kind]:
            return strong
        return Ty(weak.dtype)
    return Ty(promote(a.dtype, b.dtype))


def number(ty: Ty) -> Ty:
    """`ty` where Python counts a bool as an int."""
    return WEAK_INT if ty == WEAK_BOOL else ty


class TypeRefusal(Exception):
    """An operator that has no meaning for its operands' types: `why` and one way out."""

    def __init__(self, why: str, help: str) -> None:
        self.why = why
        self.help = help
        super().__init__(why)


def arithmetic(op: str, a: Ty, b: Ty) -> Ty:
    """The type in which `a op b` is computed, which is also its result's. Source: NumPy's ufunc loops."""
    ty = join(a, b)
    match op:
        case "/":
            if ty.dtype.is_float:
                return ty
            return WEAK_FLOAT if ty.weak else Ty(f64)
        case "&" | "|" | "^":
            if ty.dtype.is_float:
                raise TypeRefusal("bit operations are for integers and bools", "convert first: i32(x)")
            return ty
        case "<<" | ">>":
            if ty.dtype.is_float:
                raise TypeRefusal(
                    "shifts are for integers", "multiply by a power of two, or convert first: i32(x)"
                )
        case "min" | "max":
            return ty
        case "-" if ty == BOOL:
            raise TypeRefusal("NumPy has no `-` for bools", "use `^`, or convert first: i32(x)")
        case "+" | "*" if ty == BOOL:
            return ty
        case _:
            pass
    if ty == BOOL:
        return Ty(i8)
    return number(ty)
