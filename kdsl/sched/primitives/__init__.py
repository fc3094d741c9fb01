"""The primitives of the schedule language: one typed function each, from `Edit` to `Edit`."""
