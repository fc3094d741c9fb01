"""Kernels and their schedules: what a schedule means for a signature, and how a `Schedule` is run.

A schedule belongs to a kernel, not to one signature: for arrays of another type or layout its steps are taken
again, and proved again, on the IR of that signature.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from kdsl.analysis.answers import lend
from kdsl.errors import ScheduleError
from kdsl.runtime.proofs import proof_log

if TYPE_CHECKING:
    from kdsl.frontend_ast.signature import Signature
    from kdsl.ir.nodes import Func
    from kdsl.runtime.explanation import Explanation
    from kdsl.runtime.kernel import Kernel
    from kdsl.sched.schedule import Schedule
    from kdsl.target import Target

# The proofs of this process are kept where its code is.
lend(proof_log)


@dataclass(frozen=True, slots=True)
class Steps:
    """A schedule as the text of its steps: enough to find its code in the cache without taking them."""

    text: str

    @staticmethod
    def none(kernel: str) -> Steps:
        """No steps."""
        return Steps(json.dumps({"kernel": kernel, "steps": []}, indent=1))

    def then(self, more: Sequence[tuple[str, Mapping[str, Any]]]) -> Steps:
        """The same and more steps, as `Schedule.to_json` writes them."""
        found = json.loads(self.text)
        rows = [*found["steps"], *[{"do": name, **given} for name, given in more]]
        return Steps(json.dumps({**found, "steps": rows}, indent=1))


Recipe: TypeAlias = "Schedule | Steps | Callable[[Schedule], Schedule]"
"""A schedule, its text, or a function that makes one of the schedule without steps."""
Given: TypeAlias = 'Recipe | Literal["auto"]'
"""What `schedule=` takes: a recipe, or "auto", which chooses one at the call (see `runtime.auto`)."""


@dataclass(frozen=True, slots=True)
class Launcher:
    """Runs and shows schedules of one kernel.

    `constants`: the position, name and value of each constexpr parameter that the schedule was started with
    and that is not its default.
    """

    kernel: Kernel[Any]
    constants: tuple[tuple[int, str, object], ...] = ()

    @staticmethod
    def of(kernel: Kernel[Any], signature: Signature) -> Launcher:
        """For schedules that are started with this signature."""
        from kdsl.frontend_ast.signature import ConstArg
        from kdsl.runtime.arguments import identity

        params = kernel.__kdsl_source__.params
        constants = [
            (at, p.name, a.value)
            for at, (p, a) in enumerate(zip(params, signature))
            if isinstance(a, ConstArg) and identity(a.value) != identity(p.default)
        ]
        return Launcher(kernel, tuple(constants))

    def __call__(self, schedule: Schedule, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Runs the kernel under `schedule`, compiling it once for each signature."""
        missing = {
            name: value for at, name, value in self.constants if at >= len(args) and name not in kwargs
        }
        return self.kernel.with_schedule(schedule)(*args, **missing, **kwargs)

    def target(self) -> Target | None:
        """The GPU that the kernel runs on; None for other targets, on which no step depends."""
        return self.kernel._resolved() if self.kernel.target.startswith("vulkan") else None

    def llvm(self, schedule: Schedule) -> str:
        """LLVM assembly after LLVM's passes, for contiguous arrays or the last call's arguments."""
        return self.kernel.with_schedule(schedule).llvm()

    def asm(self, schedule: Schedule) -> str:
        """Machine code as assembly, likewise."""
        return self.kernel.with_schedule(schedule).asm()

    def spirv(self, schedule: Schedule) -> str:
        """SPIR-V assembly, likewise."""
        return self.kernel.with_schedule(schedule).spirv()

    def explain(self, schedule: Schedule, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Explanation:
        """How the schedule is lowered and what it costs, in sizes, for sizes, or for a call's arguments."""
        from kdsl.runtime.explain import explain

        return explain(self.kernel, schedule, args, kwargs)


def scheduled(recipe: Recipe | None, func: Func) -> Func:
    """`func`, as the front end built it, after the steps of `recipe`."""
    from kdsl.sched import Schedule

    if recipe is None:
        return func
    if isinstance(recipe, Schedule) and recipe.base == func:
        return recipe.func
    return started(recipe, func).func


def started(recipe: Recipe | None, func: Func, launcher: Launcher | None = None) -> Schedule:
    """The schedule of `func` with the steps of `recipe`, each proved again."""
    from kdsl.sched import Schedule
    from kdsl.sched.step import from_json

    start = Schedule(func, launcher)
    if recipe is None:
        return start
    if isinstance(recipe, Steps):
        return start.replay(from_json(recipe.text))
    if isinstance(recipe, Schedule):
        return start.replay([(step.name, dict(step.args)) for step in recipe.steps])
    made = recipe(start)
    if not isinstance(made, Schedule):
        raise ScheduleError(
            "K0325",
            f"the schedule of `{func.name}` is a {type(made).__name__}, not a Schedule",
            help="end the function with `return s`",
        )
    return made


def steps_text(recipe: Recipe | None) -> str | None:
    """A text that stands for `recipe` in cache keys; None for a function, whose steps show when it runs."""
    from kdsl.ir.instructions import content
    from kdsl.sched import Schedule

    if recipe is None:
        return ""
    if isinstance(recipe, Steps):
        return recipe.text
    if not isinstance(recipe, Schedule):
        return None
    named = [content(i) for step in recipe.steps for i in step.instructions]
    return "\0".join((recipe.to_json(), *named))


def checked_recipe(recipe: Any) -> Given:
    """`recipe` if it is one, or "auto"; else ScheduleError."""
    from kdsl.sched import Schedule

    if isinstance(recipe, str) and recipe == "auto":
        return "auto"
    if isinstance(recipe, Schedule) or (callable(recipe) and not isinstance(recipe, type)):
        return recipe
    raise ScheduleError(
        "K0325",
        f"{recipe!r} is not a schedule",
        help="pass a Schedule (`kernel.schedule().split(...)`), a function `def schedule(s): ... return s`, "
        'or "auto"',
    )
