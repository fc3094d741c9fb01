"""Real programs in the DSL, written in their natural form, each with an oracle made by other means."""
