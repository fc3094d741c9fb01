"""The errors that a user can meet, and the one way they are written.

Every message names the thing, shows the user's line with a caret, says why, and offers one
way out:

    error[K0312]: cannot make loop `k` parallel: its iterations update the same element
      --> matmul.py:13:9
    13 |         for k in range(K):
       |         ^^^^^^^^^^^^^^^^^^ iterations k=0 and k=1 both write C[0, 0]
       = note: step 5 of the schedule
       = help: parallelise `i` or `j`

Codes have families: K01 syntax and unsupported constructs, K02 names and types, K03
schedules, K04 arguments of a call, K05 targets, K06 faults of a running kernel, K07 the command line,
K08 tuning.
`kdsl.error_codes` holds one row for each.
"""

from __future__ import annotations

from collections.abc import Sequence

from kdsl.source import Loc, display_name, excerpt


class KdslError(Exception):
    """Base of all errors that kdsl raises on purpose.

    Attributes: `code` ("K0201"), `title`, `loc` (or None), `label` (text behind the caret),
    `notes` (each a line or `(Loc, label)` for a second place in the source), `help`.
    """

    def __init__(
        self,
        code: str,
        title: str,
        *,
        loc: Loc | None = None,
        label: str = "",
        notes: Sequence[str | tuple[Loc, str]] = (),
        help: str = "",
    ) -> None:
        self.code = code
        self.title = title
        self.loc = loc
        self.label = label
        self.notes = tuple(notes)
        self.help = help
        super().__init__(self.render())

    @property
    def filename(self) -> str | None:
        """Full path of the user's file, where known."""
        return self.loc.filename if self.loc else None

    @property
    def lineno(self) -> int | None:
        """Line (1-based) in `filename`, where known."""
        return self.loc.line if self.loc else None

    def render(self) -> str:
        """The whole message in the house style."""
        lines = [f"error[{self.code}]: {self.title}"]
        gutter = 0
        if self.loc is not None:
            gutter = len(str(self.loc.line))
            lines.append(
                f"{' ' * gutter}--> {display_name(self.loc.filename)}:{self.loc.line}:{self.loc.col + 1}"
            )
            lines += excerpt(self.loc, self.label)
        elif self.label:
            lines.append(f"  {self.label}")
        pad = " " * (gutter + 1)
        for note in self.notes:
            if isinstance(note, str):
                lines.append(f"{pad}= note: {note}")
            else:
                where, label = note
                lines += excerpt(where, label)
        if self.help:
            lines.append(f"{pad}= help: {self.help}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.code, self.title, self.loc, self.label, self.notes, self.help)


def _rebuild(
    cls: type[KdslError],
    code: str,
    title: str,
    loc: Loc | None,
    label: str,
    notes: tuple[str | tuple[Loc, str], ...],
    help: str,
) -> KdslError:
    return cls(code, title, loc=loc, label=label, notes=notes, help=help)


class CompileError(KdslError):
    """The kernel's source cannot be compiled. Raised at decoration or at the first call."""


class ScheduleError(KdslError):
    """A schedule step is illegal, cannot be proved, or got arguments that make no sense."""


class ArgumentError(KdslError, TypeError, ValueError):
    """A call's arguments do not fit the kernel. Nothing has been written."""


class TargetError(KdslError):
    """A target is missing here, or cannot do what the kernel asks for."""


class KernelIndexError(KdslError, IndexError):
    """A running kernel's index fell outside an array; arrays it writes may be partly written."""


class KernelZeroDivisionError(KdslError, ZeroDivisionError):
    """A running kernel divided an integer by zero; arrays it writes may be partly written."""


class KernelAssertionError(KdslError, AssertionError):
    """An `assert` of a running kernel failed."""


class KernelValueError(KdslError, ValueError):
    """A running kernel met a value that Python refuses too (step 0 of `range`, `2 ** -1` in integers)."""


class KernelMemoryError(KdslError, MemoryError):
    """There is no memory for a local array or a result of a running kernel."""
