"""An `Explanation` as HTML for notebooks: the nest with what is said of each loop, costs, the roofline."""

from __future__ import annotations

import html
from collections.abc import Iterator

from kdsl.runtime.explanation import Explanation, LoopFacts, Quantity, number_text
from kdsl.runtime.explanation_text import both, dispatch_text, measured, seconds_text
from kdsl.sched.html import card, highlighted
from kdsl.sched.text import bytes_text

_COLOURS = {"vector": "vec", "parallel": "par", "unrolled": "unr", "tensorize": "ten"}


def page(e: Explanation) -> str:
    """The whole card."""
    sizes = "".join([f", {name} = {value}" for name, value in (e.sizes or {}).items()])
    threads = "1 thread" if e.threads == 1 else f"{e.threads} threads"
    if e.target.kind == "vulkan":
        title = f"on {e.target.name}, {html.escape(e.target.cpu or 'a GPU')}{sizes}"
    else:
        title = f"on {e.target.name}, {8 * e.target.vector_bytes}-bit vectors, {threads}{sizes}"
    launches = [f"<p>{html.escape(dispatch_text(d))}</p>" for d in e.dispatches]
    parts = [_loops(e), *launches, *_safety(e), *_costs(e), *_machine(e)]
    return card(e.kernel, title, *parts)


def _loops(e: Explanation) -> str:
    numbers = e.sizes is not None
    head = "<tr><th>loop</th><th></th><th>lowered</th>" + (
        "<th>iterations</th><th>touches</th></tr>" if numbers else "</tr>"
    )
    rows = "".join([_loop(loop, numbers) for loop in e.loops])
    return f'<table class="wide">{head}{rows}</table>'


def _loop(loop: LoopFacts, numbers: bool) -> str:
    colour = _COLOURS.get(loop.role, "plain")
    code = (
        f'<code style="padding-left:{1.2 * loop.depth:.1f}em">{highlighted(loop.header, marked=False)}</code>'
    )
    badge = f'<span class="role {colour}">{html.escape(loop.role)}</span>'
    # The badge says it already.
    how = loop.how.removeprefix(loop.role).lstrip(",:; ") if loop.role == "in order" else loop.how
    said = [html.escape(how, quote=False)] if how else []
    if loop.why:
        said.append(f"<i>{html.escape(loop.why, quote=False)}</i>")
    for access in loop.accesses:
        said.append(f"<code>{html.escape(access.array)}</code> <i>{html.escape(access.how, quote=False)}</i>")
    cells = [code, badge, "<br>".join(said)]
    if numbers:
        cells += [_cell(loop.iterations), _cell(loop.touched)]
    return f"<tr>{''.join([f'<td>{c}</td>' for c in cells])}</tr>"


def _safety(e: Explanation) -> Iterator[str]:
    for kind, items in (("at the call", e.conditions), ("in place", e.checks)):
        for item in items:
            yield f"<p>checked {kind}: <code>{html.escape(item)}</code></p>"


def _costs(e: Explanation) -> Iterator[str]:
    rows = []
    if e.operators:
        rows.append(("flops", both(e.flops)))
    if e.calls:
        rows.append(("calls", ", ".join([f"{name}: {q}" for name, q in e.calls.items()])))
    rows.append(("bytes read or written, once each", both(e.compulsory)))
    if e.intensity is not None and e.operators:
        rows.append(("flops per byte", f"{e.intensity:.3g}"))
    body = "".join([f"<tr><td>{html.escape(a)}</td><td>{html.escape(b)}</td></tr>" for a, b in rows])
    where = f"<p><i>counted for sizes with {html.escape(' and '.join(e.where))}</i></p>" if e.where else ""
    arrays = "".join(
        [
            f"<tr><td><code>{html.escape(a.name)}</code> <i>{a.dtype} {a.memory}</i></td>"
            + "".join([f"<td>{_cell(q)}</td>" for q in (a.touched, a.loaded, a.stored)])
            + "</tr>"
            for a in e.arrays
        ]
    )
    unit = "" if e.sizes is not None else "bytes "
    yield f"<details open><summary>Costs</summary><table>{body}</table>{where}"
    if arrays:
        heads = "".join([f"<th>{unit}{word}</th>" for word in ("touched", "loaded", "stored")])
        yield f"<table><tr><th>array</th>{heads}</tr>{arrays}</table>"
    yield "</details>"


def _cell(q: Quantity | None) -> str:
    return "" if q is None else html.escape(str(q).replace("<=", "\u2264"))


def _machine(e: Explanation) -> Iterator[str]:
    roof = e.roofline
    if roof is None:
        return
    limit, bandwidth = roof.bandwidth_for(e.compulsory.value or 0)
    yield "<details open><summary>Roofline of this machine</summary>"
    if e.share is not None:
        width = max(0.0, min(100.0, 100 * e.share))
        bar = f'<span class="bar"><span style="width:{width:.0f}%"></span></span>'
        yield f"<p>{bar}{html.escape(measured(e))}</p>"
    if e.attainable is not None:
        yield f"<p>at best {seconds_text(e.attainable)}, bound by {e.bound_by}</p>"
    peak = f"{number_text(e.peak)}flop/s {e.dtype or 'f32'}"
    yield f"<p><i>{peak}, {number_text(bandwidth)}B/s for {bytes_text(limit)} of data</i></p>"
    yield "</details>"
