"""Back ends: `base` says what one is; `llvm` compiles for CPUs, `vulkan` runs SPIR-V on devices, `interp`
runs the IR itself.
"""
