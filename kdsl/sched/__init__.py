"""The schedule language: steps that change how a kernel runs and never what it computes."""

from kdsl.sched.schedule import History, Launcher, Schedule

__all__ = ["History", "Launcher", "Schedule"]
