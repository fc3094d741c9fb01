"""The worker pool of parallel loops: machine code of its own, one for all kernels of the process (Linux).

    caller                                        worker (parked in `kdsl.pool.park`)
    kdsl.pool.run(pool, table, body, context, count, limit)
      busy := 1, or run serially                  spin on `signal` for 50 us, then futex
      job, tickets := (generation, 0), signal++
      claim items, run body(context, first, last, 0)    claim items, run body(context, first, last, id)
      wait until done = items                     done += 1
      tickets closed, busy := 0

Each thread has a share of the iterations, one range of items, and helps with those of others when its own is
done: loop after loop over the same data finds it in the same core's cache. An item, `chunk` iterations, is
claimed by a compare-and-swap on its range's ticket = generation << 32 | next item. Between jobs the tickets
are closed: their item is above any number of items. So a claim succeeds only while the job that the worker
has read is under way, and the caller waits for claimed items only, never for a worker that has not come. A
body that gives a code other than 0 closes the tickets, and what was not claimed counts as done.

The first two words of `context` are the kernel's: `fault`, the first code other than 0, and `stopped`, not 0
when a Python exception is set in the caller's thread. The caller polls the stop word of `table` between
items and while it waits.

Fields that different threads write lie on different cache lines.

Who starts the workers differs (`pool_threads.py`): a Python object of the process (`runtime.pool`), or, in a
library without Python, `pthread_create` after `kdsl.pool.init`.
"""

from __future__ import annotations

from kdsl.backends.llvm.pool_threads import Starter, cpu_text, sleep_text, start_text
from kdsl.target import Target

STATE = "kdsl.pool"
RUN, PARK, WAKE = "kdsl.pool.run", "kdsl.pool.park", "kdsl.pool.wake"
"""The state, and `i64 run(...)`, `void park(ptr pool, i64 id)`, `void wake(ptr pool)`."""
INIT = "kdsl.pool.init"
"""Without Python: `void init()` sets up the state, at the first call and for others that come meanwhile."""

FIELDS = {
    "run": 0,  # address of `run`
    "start": 8,  # a Python object: called without arguments to start the workers that are missing
    "threads": 16,  # i64: threads that work on a loop, the caller included
    "workers": 24,  # i64: workers that were started
    "closed": 32,  # i64: not 0 when no worker shall run any more
    "busy": 64,  # i32: 1 while a loop uses the pool
    "generation": 128,  # i64: number of the job
    "body": 192,  # the job, written while the tickets are closed
    "context": 200,
    "count": 208,  # i64: iterations
    "chunk": 216,  # i64: iterations of an item
    "items": 224,  # i64
    "limit": 232,  # i64: threads that may take part
    "ranges": 240,  # i64: shares of the items
    "share": 248,  # i64: items of a range (the last ones may have fewer)
    "done": 256,  # i32: finished items
    "waiting": 260,  # i32: 1 when the caller sleeps until `done` is the number of items
    "signal": 320,  # i32: changes with each job and whenever workers should look around
    "sleepers": 324,  # i32: workers that sleep, or are about to
    "avoided": 328,  # i32: the CPU that workers keep away from, where the caller last woke them; -1: none
    "process": 332,  # i32: the process of the workers
    "tickets": 384,  # i64 each, a cache line apart: generation << 32 | next item of the range
    "thread": 392,  # i32 each, a cache line apart: the kernel's number of the worker, 0 when there is none
}
"""Where the fields of the state are, in bytes."""
MAX_RANGES = 64
"""Threads beyond that start in the share of another, and are not kept off the caller's CPU."""
STATE_BYTES = 384 + 64 * MAX_RANGES
CLOSED_ITEM = 0xFFFFFFFF
ITEMS_PER_THREAD = 16
POLL_NS = 20_000_000
"""How long the caller sleeps between two looks at the stop word."""


def _at(*fields: str) -> str:
    """Instructions that give `%x.at`, the address of each field `x`."""
    return "\n".join([f"  %{f}.at = getelementptr i8, ptr %pool, i64 {FIELDS[f]}" for f in fields])


def pool_text(target: Target, starter: Starter = "python") -> str:
    """The LLVM assembly of the pool."""
    parts = [
        _HEADER,
        start_text(starter, _at("start", "run", "threads", "workers")),
        sleep_text(target),
        cpu_text(target, _at("avoided", "process", "thread", "workers"), MAX_RANGES),
        _CLOSE.replace("FIELDS", _at("tickets", "ranges", "items", "share")),
        _STOP,
        _WORK.replace("FIELDS", _at(*_JOB, "tickets", "done", "waiting")),
        _WAIT.replace("FIELDS", _at("done", "waiting", "items")),
        _RUN.replace("FIELDS", _at(*FIELDS))
        .replace("CLOSED_ITEM", str(CLOSED_ITEM))
        .replace("ITEMS_PER_THREAD", str(ITEMS_PER_THREAD))
        .replace("MAX_RANGES", str(MAX_RANGES)),
        _PARK.replace("FIELDS", _at("signal", "sleepers", "threads", "closed")),
        _WAKE.replace("FIELDS", _at("signal")),
        'attributes #0 = { nounwind "no-trapping-math"="true" }',
    ]
    return "\n".join(parts) + "\n"


_JOB = ("body", "context", "count", "chunk", "items", "limit", "ranges", "share")

_HEADER = f"""\
@{STATE} = global [{STATE_BYTES} x i8] zeroinitializer, align 64
@period = internal constant [2 x i64] [i64 0, i64 {POLL_NS}]

declare i64 @syscall(i64, ...)
declare i32 @clock_gettime(i32, ptr)
declare i64 @llvm.umin.i64(i64, i64)
declare i64 @llvm.usub.sat.i64(i64, i64)
"""

_CLOSE = """\
; The number of items in a range.
define internal i64 @size(i64 %range, i64 %items, i64 %share) #0 {
  %first = mul i64 %range, %share
  %left = call i64 @llvm.usub.sat.i64(i64 %items, i64 %first)
  %size = call i64 @llvm.umin.i64(i64 %left, i64 %share)
  ret i64 %size
}

; Ends the claims of the job under way; gives the number of items that nobody has claimed.
define internal i64 @close(ptr %pool) #0 {
entry:
FIELDS
  %ranges = load atomic i64, ptr %ranges.at acquire, align 8
  %items = load atomic i64, ptr %items.at acquire, align 8
  %share = load atomic i64, ptr %share.at acquire, align 8
  br label %next
next:
  %range = phi i64 [ 0, %entry ], [ %following, %closed ]
  %dropped = phi i64 [ 0, %entry ], [ %sum, %closed ]
  %offset = shl i64 %range, 6
  %ticket.at = getelementptr i8, ptr %tickets.at, i64 %offset
  %size = call i64 @size(i64 %range, i64 %items, i64 %share)
  br label %again
again:
  %old = load atomic i64, ptr %ticket.at acquire, align 8
  %item = and i64 %old, 4294967295
  %left = sub i64 %size, %item
  %some = icmp ult i64 %item, %size
  br i1 %some, label %try, label %closed
try:
  %new = add i64 %old, %left
  %pair = cmpxchg ptr %ticket.at, i64 %old, i64 %new acq_rel acquire, align 8
  %won = extractvalue { i64, i1 } %pair, 1
  br i1 %won, label %closed, label %again
closed:
  %more = phi i64 [ 0, %again ], [ %left, %try ]
  %sum = add i64 %dropped, %more
  %following = add i64 %range, 1
  %another = icmp ult i64 %following, %ranges
  br i1 %another, label %next, label %out
out:
  ret i64 %sum
}
"""

_STOP = """\
; The caller's look at the stop word: 1 when the loop has to end, which is noted in the context. After that
; a Python exception is set, and nothing may be polled.
define internal i64 @stop(ptr %table, ptr %context) #0 {
entry:
  %stopped.at = getelementptr i8, ptr %context, i64 8
  %before = load i64, ptr %stopped.at, align 8
  %new = icmp eq i64 %before, 0
  br i1 %new, label %look, label %ended
look:
  %word.at = load ptr, ptr %table, align 8
  %word = load volatile i32, ptr %word.at, align 4
  %set = icmp ne i32 %word, 0
  br i1 %set, label %ask, label %go
ask:
  %poll.at = getelementptr i8, ptr %table, i64 8
  %poll = load ptr, ptr %poll.at, align 8
  %answer = call i64 %poll(ptr %table)
  %stopped = icmp ne i64 %answer, 0
  br i1 %stopped, label %end, label %go
end:
  store i64 1, ptr %stopped.at, align 8
  %pair = cmpxchg ptr %context, i64 0, i64 -1 acq_rel acquire, align 8
  br label %ended
ended:
  ret i64 1
go:
  ret i64 0
}
"""

_WORK = """\
; Runs items until there are none to claim, from those of its own range on. The caller is `id` 0, and alone
; has a `table`. A worker that comes late may know the number of ranges of another job: then it tries too
; many, which are closed, or too few.
define internal void @work(ptr %pool, ptr %table, i64 %id) #0 {
entry:
FIELDS
  %ranges = load atomic i64, ptr %ranges.at acquire, align 8
  %any = icmp ne i64 %ranges, 0
  br i1 %any, label %begin, label %out
begin:
  %own = urem i64 %id, %ranges
  br label %range
range:
  %tried = phi i64 [ 0, %begin ], [ %tries, %exhausted ]
  %place = add i64 %own, %tried
  %range.number = urem i64 %place, %ranges
  %offset = shl i64 %range.number, 6
  %ticket.at = getelementptr i8, ptr %tickets.at, i64 %offset
  br label %again
exhausted:
  %tries = add i64 %tried, 1
  %another = icmp ult i64 %tries, %ranges
  br i1 %another, label %range, label %out
again:
  %ticket = load atomic i64, ptr %ticket.at acquire, align 8
  %body = load atomic ptr, ptr %body.at acquire, align 8
  %context = load atomic ptr, ptr %context.at acquire, align 8
  %count = load atomic i64, ptr %count.at acquire, align 8
  %chunk = load atomic i64, ptr %chunk.at acquire, align 8
  %items = load atomic i64, ptr %items.at acquire, align 8
  %limit = load atomic i64, ptr %limit.at acquire, align 8
  %share = load atomic i64, ptr %share.at acquire, align 8
  %number = and i64 %ticket, 4294967295
  %size = call i64 @size(i64 %range.number, i64 %items, i64 %share)
  %some = icmp ult i64 %number, %size
  %may = icmp ult i64 %id, %limit
  %try.it = and i1 %some, %may
  br i1 %try.it, label %try, label %exhausted
try:
  %next = add i64 %ticket, 1
  %pair = cmpxchg ptr %ticket.at, i64 %ticket, i64 %next acq_rel acquire, align 8
  %won = extractvalue { i64, i1 } %pair, 1
  br i1 %won, label %claimed, label %again
claimed:
  %before.range = mul i64 %range.number, %share
  %item = add i64 %before.range, %number
  %first = mul i64 %item, %chunk
  %behind = add i64 %first, %chunk
  %last = call i64 @llvm.umin.i64(i64 %behind, i64 %count)
  %code = call i64 %body(ptr %context, i64 %first, i64 %last, i64 %id)
  %good = icmp eq i64 %code, 0
  br i1 %good, label %look, label %bad
look:
  %caller = icmp ne ptr %table, null
  br i1 %caller, label %poll, label %finish
poll:
  %stop = call i64 @stop(ptr %table, ptr %context)
  %on = icmp eq i64 %stop, 0
  br i1 %on, label %finish, label %bad
bad:
  %dropped = call i64 @close(ptr %pool)
  br label %finish
finish:
  %extra = phi i64 [ 0, %look ], [ 0, %poll ], [ %dropped, %bad ]
  %more = add i64 %extra, 1
  %more.i32 = trunc i64 %more to i32
  %before = atomicrmw add ptr %done.at, i32 %more.i32 seq_cst, align 4
  %done = add i32 %before, %more.i32
  %items.i32 = trunc i64 %items to i32
  %all = icmp eq i32 %done, %items.i32
  br i1 %all, label %end, label %again
end:
  %waiting = load atomic i32, ptr %waiting.at seq_cst, align 4
  %asleep = icmp ne i32 %waiting, 0
  br i1 %asleep, label %tell, label %out
tell:
  call void @rouse(ptr %done.at, i64 1)
  br label %out
out:
  ret void
}
"""

_WAIT = """\
; The caller's wait for the items that workers have claimed.
define internal void @wait(ptr %pool, ptr %table, ptr %context) #0 {
entry:
FIELDS
  %items = load atomic i64, ptr %items.at monotonic, align 8
  %items.i32 = trunc i64 %items to i32
  %first = load atomic i32, ptr %done.at acquire, align 4
  br label %test
test:
  %done = phi i32 [ %first, %entry ], [ %spun, %spin ], [ %now, %look ], [ %now, %asleep ]
  %all = icmp eq i32 %done, %items.i32
  br i1 %all, label %out, label %spin
spin:
  %spun = call i32 @spin(ptr %done.at, i32 %done)
  %moved = icmp ne i32 %spun, %done
  br i1 %moved, label %test, label %asleep
asleep:
  store atomic i32 1, ptr %waiting.at seq_cst, align 4
  %now = load atomic i32, ptr %done.at seq_cst, align 4
  %still = icmp eq i32 %now, %done
  br i1 %still, label %sleep, label %test
sleep:
  call void @sleep(ptr %done.at, i32 %done, ptr @period)
  br label %look
look:
  %stop = call i64 @stop(ptr %table, ptr %context)
  br label %test
out:
  ret void
}
"""

_RUN = """\
; Sets the tickets of the first `ranges` ranges.
define internal void @tickets(ptr %pool, i64 %ranges, i64 %ticket) #0 {
entry:
FIELDS
  br label %next
next:
  %range = phi i64 [ 0, %entry ], [ %following, %next ]
  %offset = shl i64 %range, 6
  %ticket.at = getelementptr i8, ptr %tickets.at, i64 %offset
  store atomic i64 %ticket, ptr %ticket.at seq_cst, align 8
  %following = add i64 %range, 1
  %another = icmp ult i64 %following, %ranges
  br i1 %another, label %next, label %out
out:
  ret void
}

; Runs body(context, first, last, thread) over [0, count), by at most `limit` threads; gives the code.
define i64 @kdsl.pool.run(ptr %pool, ptr %table, ptr %body, ptr %context, i64 %count, i64 %limit) #0 {
entry:
FIELDS
  %threads = load atomic i64, ptr %threads.at monotonic, align 8
  %party = call i64 @llvm.umin.i64(i64 %threads, i64 %limit)
  %closed = load atomic i64, ptr %closed.at monotonic, align 8
  %open = icmp eq i64 %closed, 0
  %many = icmp ugt i64 %party, 1
  %divisible = icmp ugt i64 %count, 1
  %worth = and i1 %many, %divisible
  %join = and i1 %worth, %open
  br i1 %join, label %enter, label %serial
serial:
  %alone = call i64 %body(ptr %context, i64 0, i64 %count, i64 0)
  ret i64 %alone
enter:
  %pair = cmpxchg ptr %busy.at, i32 0, i32 1 acq_rel acquire, align 4
  %won = extractvalue { i32, i1 } %pair, 1
  br i1 %won, label %staff, label %serial
staff:
  %workers = load atomic i64, ptr %workers.at acquire, align 8
  %wanted = sub i64 %threads, 1
  %staffed = icmp uge i64 %workers, %wanted
  br i1 %staffed, label %prepare, label %start
start:
  %failed = call i64 @start(ptr %pool)
  %raised = icmp ne i64 %failed, 0
  br i1 %raised, label %give.up, label %prepare
give.up:
  store atomic i32 0, ptr %busy.at release, align 4
  ret i64 -1
prepare:
  %most = mul i64 %party, ITEMS_PER_THREAD
  %count.up = add i64 %count, %most
  %count.less = sub i64 %count.up, 1
  %chunk = udiv i64 %count.less, %most
  %up = add i64 %count, %chunk
  %less = sub i64 %up, 1
  %items = udiv i64 %less, %chunk
  %ranges = call i64 @llvm.umin.i64(i64 %party, i64 MAX_RANGES)
  %items.up = add i64 %items, %ranges
  %items.less = sub i64 %items.up, 1
  %share = udiv i64 %items.less, %ranges
  store atomic ptr %body, ptr %body.at release, align 8
  store atomic ptr %context, ptr %context.at release, align 8
  store atomic i64 %count, ptr %count.at release, align 8
  store atomic i64 %chunk, ptr %chunk.at release, align 8
  store atomic i64 %items, ptr %items.at release, align 8
  store atomic i64 %limit, ptr %limit.at release, align 8
  store atomic i64 %ranges, ptr %ranges.at release, align 8
  store atomic i64 %share, ptr %share.at release, align 8
  store atomic i32 0, ptr %done.at release, align 4
  store atomic i32 0, ptr %waiting.at release, align 4
  %before = load atomic i64, ptr %generation.at monotonic, align 8
  %generation = add i64 %before, 1
  store atomic i64 %generation, ptr %generation.at monotonic, align 8
  %ticket = shl i64 %generation, 32
  call void @tickets(ptr %pool, i64 %ranges, i64 %ticket)
  %signal = atomicrmw add ptr %signal.at, i32 1 seq_cst, align 4
  %sleepers = load atomic i32, ptr %sleepers.at seq_cst, align 4
  %asleep = icmp ne i32 %sleepers, 0
  br i1 %asleep, label %call, label %work
call:
  call void @avoid(ptr %pool)
  %others = sub i64 %items, 1
  call void @rouse(ptr %signal.at, i64 %others)
  br label %work
work:
  call void @work(ptr %pool, ptr %table, i64 0)
  call void @wait(ptr %pool, ptr %table, ptr %context)
  %shut = or i64 %ticket, CLOSED_ITEM
  call void @tickets(ptr %pool, i64 %ranges, i64 %shut)
  %stopped.at = getelementptr i8, ptr %context, i64 8
  %stopped = load i64, ptr %stopped.at, align 8
  %fault = load atomic i64, ptr %context acquire, align 8
  store atomic i32 0, ptr %busy.at release, align 4
  %quiet = icmp eq i64 %stopped, 0
  %code = select i1 %quiet, i64 %fault, i64 -1
  ret i64 %code
}
"""

_PARK = """\
; A worker's life: until the pool is closed, or has fewer threads.
define void @kdsl.pool.park(ptr %pool, i64 %id) #0 {
entry:
FIELDS
  call void @register(ptr %pool, i64 %id)
  br label %again
again:
  %seen = load atomic i32, ptr %signal.at seq_cst, align 4
  call void @work(ptr %pool, ptr null, i64 %id)
  %threads = load atomic i64, ptr %threads.at acquire, align 8
  %closed = load atomic i64, ptr %closed.at acquire, align 8
  %open = icmp eq i64 %closed, 0
  %needed = icmp ult i64 %id, %threads
  %stay = and i1 %open, %needed
  br i1 %stay, label %look, label %out
look:
  %value = call i32 @spin(ptr %signal.at, i32 %seen)
  %news = icmp ne i32 %value, %seen
  br i1 %news, label %again, label %lie.down
lie.down:
  %a = atomicrmw add ptr %sleepers.at, i32 1 seq_cst, align 4
  call void @sleep(ptr %signal.at, i32 %seen, ptr null)
  %b = atomicrmw sub ptr %sleepers.at, i32 1 seq_cst, align 4
  br label %again
out:
  call void @unregister(ptr %pool, i64 %id)
  ret void
}
"""

_WAKE = """\
; Lets all workers look around.
define void @kdsl.pool.wake(ptr %pool) #0 {
entry:
FIELDS
  %signal = atomicrmw add ptr %signal.at, i32 1 seq_cst, align 4
  call void @rouse(ptr %signal.at, i64 2147483647)
  ret void
}
"""
