"""The two small functions of each module that deal with the interpreter lock and with signals.

    define i64 @saxpy.run(ptr %frame)     ; the kernel, with the GIL released
    define i64 @saxpy.poll(ptr %table)    ; lets Python handle signals; nonzero when a handler has raised

`poll` runs no Python code but the signal handlers, so what one of them raises stays set in this thread for the
caller that gets the code -1.
"""

from __future__ import annotations

from kdsl.backends.llvm.builder import ModuleText

_DECLARED = (
    "ptr @PyEval_SaveThread()",
    "void @PyEval_RestoreThread(ptr)",
    "i32 @PyGILState_Ensure()",
    "void @PyGILState_Release(i32)",
    "ptr @PyObject_CallNoArgs(ptr)",
    "void @Py_DecRef(ptr)",
    "i32 @PyErr_CheckSignals()",
)


def emit_gil(module: ModuleText, symbol: str) -> None:
    """Adds `@symbol.run` and `@symbol.poll` (see `backends.base.FrameLayout`)."""
    for declaration in _DECLARED:
        module.declare(declaration)
    module.functions.append(
        f"""\
define i64 @{symbol}.run(ptr noundef nonnull %frame) {{
  %thread = call ptr @PyEval_SaveThread()
  %code = call i64 @{symbol}(ptr %frame)
  call void @PyEval_RestoreThread(ptr %thread)
  ret i64 %code
}}

define i64 @{symbol}.poll(ptr noundef nonnull %table) cold {{
  %gil = call i32 @PyGILState_Ensure()
  %stop = load ptr, ptr %table, align 8
  store volatile i32 0, ptr %stop, align 4
  %wake.slot = getelementptr i8, ptr %table, i64 40
  %wake = load ptr, ptr %wake.slot, align 8
  %none = call ptr @PyObject_CallNoArgs(ptr %wake)
  call void @Py_DecRef(ptr %none)
  %raised = call i32 @PyErr_CheckSignals()
  call void @PyGILState_Release(i32 %gil)
  %answer = sext i32 %raised to i64
  ret i64 %answer
}}
"""
    )
