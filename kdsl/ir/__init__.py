"""The loop-level IR: `nodes` (read that first), `walk`, `printer`, `parser`, `verify`, `interpreter`, `builtins`."""
