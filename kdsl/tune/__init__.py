"""The autotuner: a search space made from the program, models of its cost, search, measuring, results."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdsl.tune.measuring.measure import Limits
    from kdsl.tune.result import Result
    from kdsl.tune.trial import Trial

__all__ = ["Limits", "Result", "Trial"]

_HOMES = {"Limits": "measuring.measure", "Result": "result", "Trial": "trial"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'kdsl.tune' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"kdsl.tune.{_HOMES[name]}"), name)
