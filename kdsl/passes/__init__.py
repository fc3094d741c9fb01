"""Lowering: from the IR that the front end and the schedules make to the IR that back ends take."""

from kdsl.passes.pipeline import PASSES, Lowering, lower

__all__ = ["PASSES", "Lowering", "lower"]
