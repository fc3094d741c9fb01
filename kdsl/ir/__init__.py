"""The loop-level IR: read `nodes` first.

`walk`, `printer`, `parser`, `verify`, `interpreter` and the table `builtins` stand around it.
"""
