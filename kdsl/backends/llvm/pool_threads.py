"""The threads of the worker pool: how they start, in a process with Python or without, sleep, and find a CPU.

`pool.py` has the pool itself. A thread that has nothing to do spins for a while and then sleeps on a futex.

Linux may wake a sleeper on the CPU of the thread that wakes it, though others are idle (in virtual machines
it takes a CPU whose host thread sleeps for a busy one). But here the waker goes on working: until load is
balanced, tens of milliseconds later, both share that CPU. So workers are kept off the caller's CPU: before
it wakes them from another CPU than the last time, the caller takes its own CPU out of their affinity masks.
"""

from __future__ import annotations

from typing import Literal

from kdsl.target import Target

Starter = Literal["python", "pthread"]
MOST_THREADS = 1024
SPIN_NS = 50_000

_FUTEX_NUMBER = {"x86_64": 202, "aarch64": 98}
_GETTID_NUMBER = {"x86_64": 186, "aarch64": 178}
_PAUSE = {"x86_64": "call void @llvm.x86.sse2.pause()", "aarch64": "call void @llvm.aarch64.hint(i32 1)"}
_PAUSE_DECLARATION = {"x86_64": "void @llvm.x86.sse2.pause()", "aarch64": "void @llvm.aarch64.hint(i32)"}


def supported(target: Target) -> bool:
    """Whether there is a pool for this target: elsewhere parallel loops run serially."""
    return "linux" in target.triple and _machine(target) in _FUTEX_NUMBER


def _machine(target: Target) -> str:
    return target.triple.partition("-")[0]


def start_text(starter: Starter, fields: str) -> str:
    """`i64 start(ptr %pool)`; `fields` gives the addresses of start, run, threads and workers."""
    text = {"python": _PYTHON_START, "pthread": _PTHREAD_START}[starter]
    return text.replace("FIELDS", fields).replace("MOST_THREADS", str(MOST_THREADS))


def sleep_text(target: Target) -> str:
    """`i32 spin(ptr %word, i32 %seen)`, `void sleep(ptr, i32, ptr)`, `void rouse(ptr, i64)`."""
    machine = _machine(target)
    spin = _SPIN.replace("PAUSE", _PAUSE[machine]).replace("SPIN_NS", str(SPIN_NS))
    return "\n".join([_futex(_FUTEX_NUMBER[machine]), spin, f"declare {_PAUSE_DECLARATION[machine]}"])


def cpu_text(target: Target, fields: str, lines: int) -> str:
    """`void register(ptr %pool, i64 %id)`, `void unregister(...)`, `void avoid(ptr %pool)`.

    `fields` gives the addresses of avoided, process, thread and workers; there are `lines` threads.
    """
    text = _CPU.replace("FIELDS", fields).replace("LINES", str(lines))
    return text.replace("GETTID", str(_GETTID_NUMBER[_machine(target)]))


_PYTHON_START = """\
declare i32 @PyGILState_Ensure()
declare void @PyGILState_Release(i32)
declare ptr @PyObject_CallNoArgs(ptr)
declare void @Py_DecRef(ptr)

; Starts the workers that are missing; not 0 when a Python exception is set.
define internal i64 @start(ptr %pool) #0 {
FIELDS
  %gil = call i32 @PyGILState_Ensure()
  %starter = load ptr, ptr %start.at, align 8
  %none = call ptr @PyObject_CallNoArgs(ptr %starter)
  call void @Py_DecRef(ptr %none)
  call void @PyGILState_Release(i32 %gil)
  %raised = icmp eq ptr %none, null
  %answer = zext i1 %raised to i64
  ret i64 %answer
}
"""

# glibc and musl on Linux: sigset_t has 128 bytes; SIG_BLOCK is 0, SIG_SETMASK 2, _SC_NPROCESSORS_ONLN 84.
_PTHREAD_START = """\
declare i32 @pthread_once(ptr, ptr)
declare i32 @pthread_create(ptr, ptr, ptr, ptr)
declare i32 @pthread_detach(ptr)
declare i32 @pthread_sigmask(i32, ptr, ptr)
declare i64 @sysconf(i32)
declare ptr @getenv(ptr)
declare i64 @strtol(ptr, ptr, i32)
declare i64 @llvm.smin.i64(i64, i64)
declare i64 @llvm.smax.i64(i64, i64)
declare <16 x i64> @llvm.ctpop.v16i64(<16 x i64>)
declare i64 @llvm.vector.reduce.add.v16i64(<16 x i64>)

@once = internal global i32 0, align 4
@variable = internal constant [17 x i8] c"KDSL_NUM_THREADS\\00"

define void @kdsl.pool.init() #0 {
  %r = call i32 @pthread_once(ptr @once, ptr @prepare)
  ret void
}

; As many threads as the variable says, or as there are CPUs for this process.
define internal void @prepare() #0 {
entry:
  %pool = getelementptr i8, ptr @kdsl.pool, i64 0
FIELDS
  %set = alloca [16 x i64], align 8
  store [16 x i64] zeroinitializer, ptr %set, align 8
  %got = call i32 @sched_getaffinity(i32 0, i64 128, ptr %set)
  %online = call i64 @sysconf(i32 84)
  %bits = load <16 x i64>, ptr %set, align 8
  %counts = call <16 x i64> @llvm.ctpop.v16i64(<16 x i64> %bits)
  %mine = call i64 @llvm.vector.reduce.add.v16i64(<16 x i64> %counts)
  %known = icmp sge i32 %got, 0
  %cpus = select i1 %known, i64 %mine, i64 %online
  %some = call i64 @llvm.smax.i64(i64 %cpus, i64 1)
  %usual = call i64 @llvm.smin.i64(i64 %some, i64 MOST_THREADS)
  %text = call ptr @getenv(ptr @variable)
  %unset = icmp eq ptr %text, null
  br i1 %unset, label %settle, label %read
read:
  %number = call i64 @strtol(ptr %text, ptr null, i32 10)
  %less = sub i64 %number, 1
  %fits = icmp ult i64 %less, MOST_THREADS
  %wanted = select i1 %fits, i64 %number, i64 %usual
  br label %settle
settle:
  %threads = phi i64 [ %usual, %entry ], [ %wanted, %read ]
  store ptr @kdsl.pool.run, ptr %run.at, align 8
  store atomic i64 %threads, ptr %threads.at release, align 8
  ret void
}

define internal ptr @live(ptr %id) #0 {
  %number = ptrtoint ptr %id to i64
  call void @kdsl.pool.park(ptr @kdsl.pool, i64 %number)
  ret ptr null
}

; Starts the workers that are missing, which get no signals. With fewer where there are no more threads.
define internal i64 @start(ptr %pool) #0 {
entry:
FIELDS
  %all = alloca [16 x i64], align 8
  %old = alloca [16 x i64], align 8
  %thread = alloca ptr, align 8
  call void @llvm.memset.p0.i64(ptr %all, i8 -1, i64 128, i1 false)
  %a = call i32 @pthread_sigmask(i32 0, ptr %all, ptr %old)
  %threads = load atomic i64, ptr %threads.at monotonic, align 8
  %have = load atomic i64, ptr %workers.at monotonic, align 8
  br label %test
test:
  %last = phi i64 [ %have, %entry ], [ %id, %started ]
  %id = add i64 %last, 1
  %more = icmp ult i64 %id, %threads
  br i1 %more, label %create, label %out
create:
  %argument = inttoptr i64 %id to ptr
  %failed = call i32 @pthread_create(ptr %thread, ptr null, ptr @live, ptr %argument)
  %bad = icmp ne i32 %failed, 0
  br i1 %bad, label %few, label %started
started:
  %handle = load ptr, ptr %thread, align 8
  %d = call i32 @pthread_detach(ptr %handle)
  store atomic i64 %id, ptr %workers.at release, align 8
  br label %test
few:
  store atomic i64 %id, ptr %threads.at release, align 8
  br label %out
out:
  %b = call i32 @pthread_sigmask(i32 2, ptr %old, ptr null)
  ret i64 0
}

declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
"""


def _futex(number: int) -> str:
    """linux/futex.h: FUTEX_WAIT_PRIVATE is 128, FUTEX_WAKE_PRIVATE 129."""
    return f"""\
; Sleeps while `word` is `value`; at most `timeout` (null: for ever). May return early.
define internal void @sleep(ptr %word, i32 %value, ptr %timeout) #0 {{
  call i64 (i64, ...) @syscall(i64 {number}, ptr %word, i64 128, i32 %value, ptr %timeout, ptr null, i64 0)
  ret void
}}

define internal void @rouse(ptr %word, i64 %sleepers) #0 {{
  call i64 (i64, ...) @syscall(i64 {number}, ptr %word, i64 129, i64 %sleepers, ptr null, ptr null, i64 0)
  ret void
}}
"""


# glibc and musl on Linux: cpu_set_t has 128 bytes.
_CPU = """\
declare i32 @getpid()
declare i32 @sched_getcpu()
declare i32 @sched_getaffinity(i32, i64, ptr)
declare i32 @sched_setaffinity(i32, i64, ptr)

; Notes the worker that calls this, which the caller does not know yet.
define internal void @register(ptr %pool, i64 %id) #0 {
entry:
FIELDS
  %thread.i64 = call i64 (i64, ...) @syscall(i64 GETTID)
  %thread = trunc i64 %thread.i64 to i32
  %process = call i32 @getpid()
  %known = icmp ult i64 %id, LINES
  br i1 %known, label %note, label %out
note:
  %offset = shl i64 %id, 6
  %at = getelementptr i8, ptr %thread.at, i64 %offset
  store atomic i32 %process, ptr %process.at monotonic, align 4
  store atomic i32 %thread, ptr %at release, align 8
  store atomic i32 -1, ptr %avoided.at release, align 4
  br label %out
out:
  ret void
}

define internal void @unregister(ptr %pool, i64 %id) #0 {
entry:
FIELDS
  %known = icmp ult i64 %id, LINES
  br i1 %known, label %note, label %out
note:
  %offset = shl i64 %id, 6
  %at = getelementptr i8, ptr %thread.at, i64 %offset
  store atomic i32 0, ptr %at release, align 8
  br label %out
out:
  ret void
}

; Lets workers run where the calling thread may, but for the CPU where it is. Where that leaves none, the
; system refuses it, and they stay as they are. After a fork the threads that are noted are the parent's.
define internal void @avoid(ptr %pool) #0 {
entry:
FIELDS
  %cpus = alloca [16 x i64], align 8
  %cpu = call i32 @sched_getcpu()
  %old = load atomic i32, ptr %avoided.at acquire, align 4
  %new = icmp ne i32 %cpu, %old
  %fits = icmp ult i32 %cpu, 1024
  %change = and i1 %new, %fits
  br i1 %change, label %look, label %out
look:
  store atomic i32 %cpu, ptr %avoided.at release, align 4
  %process = load atomic i32, ptr %process.at monotonic, align 4
  %this = call i32 @getpid()
  %ours = icmp eq i32 %process, %this
  %got = call i32 @sched_getaffinity(i32 0, i64 128, ptr %cpus)
  %good = icmp sge i32 %got, 0
  %may = and i1 %ours, %good
  br i1 %may, label %mask, label %out
mask:
  %word = lshr i32 %cpu, 6
  %word.at = getelementptr i64, ptr %cpus, i32 %word
  %place.i32 = and i32 %cpu, 63
  %place = zext i32 %place.i32 to i64
  %bit = shl i64 1, %place
  %rest = xor i64 %bit, -1
  %all = load i64, ptr %word.at, align 8
  %others = and i64 %all, %rest
  store i64 %others, ptr %word.at, align 8
  %workers = load atomic i64, ptr %workers.at acquire, align 8
  %behind = add i64 %workers, 1
  %ids = call i64 @llvm.umin.i64(i64 %behind, i64 LINES)
  br label %test
test:
  %id = phi i64 [ 1, %mask ], [ %next, %following ]
  %more = icmp ult i64 %id, %ids
  br i1 %more, label %worker, label %out
worker:
  %offset = shl i64 %id, 6
  %at = getelementptr i8, ptr %thread.at, i64 %offset
  %thread = load atomic i32, ptr %at acquire, align 8
  %there = icmp ne i32 %thread, 0
  br i1 %there, label %move, label %following
move:
  %r = call i32 @sched_setaffinity(i32 %thread, i64 128, ptr %cpus)
  br label %following
following:
  %next = add i64 %id, 1
  br label %test
out:
  ret void
}
"""


_SPIN = """\
define internal i64 @now() #0 {
  %time = alloca [2 x i64], align 8
  %r = call i32 @clock_gettime(i32 1, ptr %time)
  %s = load i64, ptr %time, align 8
  %ns.at = getelementptr i8, ptr %time, i64 8
  %ns = load i64, ptr %ns.at, align 8
  %whole = mul i64 %s, 1000000000
  %t = add i64 %whole, %ns
  ret i64 %t
}

; Gives `word` as soon as it is not `seen`, or after a while.
define internal i32 @spin(ptr %word, i32 %seen) #0 {
entry:
  %start = call i64 @now()
  br label %round
round:
  br label %test
test:
  %n = phi i32 [ 0, %round ], [ %more, %pause ]
  %value = load atomic i32, ptr %word acquire, align 4
  %changed = icmp ne i32 %value, %seen
  br i1 %changed, label %out, label %pause
pause:
  PAUSE
  %more = add i32 %n, 1
  %again = icmp ult i32 %more, 16
  br i1 %again, label %test, label %clock
clock:
  %now = call i64 @now()
  %spent = sub i64 %now, %start
  %late = icmp ugt i64 %spent, SPIN_NS
  br i1 %late, label %out, label %round
out:
  ret i32 %value
}
"""
