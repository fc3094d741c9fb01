"""The small functions of a module that deal with the interpreter lock, signals and Python's `print`.

    define i64 @saxpy.run(ptr %frame)     ; the kernel, with the GIL released
    define i64 @saxpy.poll(ptr %table)    ; lets Python handle signals; nonzero when a handler has raised
    define internal i64 @kdsl.print(...)  ; calls the table's printing function; nonzero when it has raised

What Python code raises stays set in this thread for the caller that gets the code -1.
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
  %lost = icmp eq ptr %none, null
  %raised = call i32 @PyErr_CheckSignals()
  call void @PyGILState_Release(i32 %gil)
  %signal = icmp ne i32 %raised, 0
  %stop.now = or i1 %lost, %signal
  %answer = sext i1 %stop.now to i64
  ret i64 %answer
}}
"""
    )


def print_helper(module: ModuleText) -> str:
    """The name of the function that prints: `i64 (ptr table, i64 site, i64 count, ptr values)`."""
    for declaration in (
        "i32 @PyGILState_Ensure()",
        "void @PyGILState_Release(i32)",
        "ptr @PyObject_CallFunction(ptr, ptr, ...)",
        "void @Py_DecRef(ptr)",
    ):
        module.declare(declaration)
    return module.helper("kdsl.print", lambda: _PRINT)


_PRINT = """\
@kdsl.print.format = private unnamed_addr constant [4 x i8] c"LLL\\00", align 1

define internal i64 @kdsl.print(ptr %table, i64 %site, i64 %count, ptr %values) cold noinline {
  %gil = call i32 @PyGILState_Ensure()
  %slot = getelementptr i8, ptr %table, i64 16
  %print = load ptr, ptr %slot, align 8
  %where = ptrtoint ptr %values to i64
  %done = call ptr (ptr, ptr, ...) @PyObject_CallFunction(ptr %print, ptr @kdsl.print.format, i64 %site, \
i64 %count, i64 %where)
  %failed = icmp eq ptr %done, null
  call void @Py_DecRef(ptr %done)
  call void @PyGILState_Release(i32 %gil)
  %answer = sext i1 %failed to i64
  ret i64 %answer
}
"""
