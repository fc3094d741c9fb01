"""Back ends: `base` says what one is; `llvm` compiles for CPUs, `interp` runs the IR itself."""
