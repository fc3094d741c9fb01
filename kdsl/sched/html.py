"""Schedules and their history as HTML for notebooks: self-contained, light and dark, without scripts."""

from __future__ import annotations

import html
import io
import keyword
import tokenize
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from kdsl.ir.nodes import Loop
from kdsl.sched.text import NestLine, Sign, changes, nest_lines, shortened

if TYPE_CHECKING:
    from kdsl.ir.nodes import Stmt
    from kdsl.sched.schedule import History, Schedule

ROLES = {"vectorize": "vec", "parallel": "par", "unroll": "unr", "bind": "gpu", "tensorize": "ten"}
"""The colour of each role of a loop; another role has the colour of text."""

_LIGHT = (
    "--fg:#1f2328;--dim:#6e7781;--bg:#fff;--soft:#f6f8fa;--line:#d8dee4;--key:#8250df;--num:#0550ae;"
    "--str:#0a5c36;--vec:#0969da;--par:#bc4c00;--unr:#1a7f37;--gpu:#8250df;--ten:#bf3989;"
    "--add:#dafbe1;--del:#ffebe9"
)
_DARK = (
    "--fg:#e6edf3;--dim:#8d96a0;--bg:#0d1117;--soft:#161b22;--line:#30363d;--key:#d2a8ff;--num:#79c0ff;"
    "--str:#7ee787;--vec:#58a6ff;--par:#f0883e;--unr:#3fb950;--gpu:#bc8cff;--ten:#f778ba;"
    "--add:#12381f;--del:#4a1d1d"
)
_STYLE = f"""<style>
.kdsl{{{_LIGHT};color:var(--fg);background:var(--bg);border:1px solid var(--line);border-radius:8px;
font:13px/1.5 system-ui,sans-serif;margin:.3em 0;overflow:hidden}}
@media (prefers-color-scheme:dark){{.kdsl{{{_DARK}}}}}
[data-jp-theme-light="true"] .kdsl,.vscode-light .kdsl{{{_LIGHT}}}
[data-jp-theme-light="false"] .kdsl,.vscode-dark .kdsl{{{_DARK}}}
.kdsl header{{background:var(--soft);border-bottom:1px solid var(--line);padding:6px 12px;display:flex;
gap:10px;align-items:baseline}}
.kdsl header b{{font-weight:600}}.kdsl header span{{color:var(--dim)}}
.kdsl pre{{margin:0;padding:10px 12px;overflow-x:auto;background:transparent;color:inherit;
font:12px/1.55 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;white-space:pre}}
.kdsl pre div{{min-width:max-content}}
.kdsl code{{font:12px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;color:inherit;
background:transparent;padding:0}}
.kdsl details{{border-top:1px solid var(--line)}}.kdsl summary{{padding:5px 12px;cursor:pointer}}
.kdsl summary:hover{{background:var(--soft)}}
.kdsl ol{{margin:0;padding:2px 12px 8px 38px}}.kdsl li::marker{{color:var(--dim)}}
.kdsl i{{color:var(--dim)}}.kdsl .k{{color:var(--key)}}
.kdsl .n{{color:var(--num)}}.kdsl .s{{color:var(--str)}}
.kdsl .role{{font-weight:600;border-radius:4px;padding:0 4px;border:1px solid;font-size:11px}}
.kdsl .vec{{color:var(--vec)}}.kdsl .par{{color:var(--par)}}.kdsl .unr{{color:var(--unr)}}
.kdsl .gpu{{color:var(--gpu)}}.kdsl .ten{{color:var(--ten)}}.kdsl .unsafe{{color:var(--par)}}
.kdsl .add{{background:var(--add)}}.kdsl .del{{background:var(--del)}}.kdsl .sign{{color:var(--dim)}}
.kdsl table{{border-collapse:collapse;margin:6px 12px 10px;font:inherit;color:inherit;background:transparent}}
.kdsl th,.kdsl td{{text-align:right;padding:2px 12px;border:0;background:transparent}}
.kdsl th{{color:var(--dim);font-weight:500;border-bottom:1px solid var(--line)}}
.kdsl td:first-child,.kdsl th:first-child{{text-align:left;padding-left:0}}
.kdsl table.wide td{{text-align:left;vertical-align:top}}.kdsl table.wide th{{text-align:left}}
.kdsl table.wide td:nth-child(n+4){{text-align:right;white-space:nowrap}}
.kdsl table.wide td:first-child{{white-space:nowrap}}.kdsl .plain{{color:var(--dim);font-weight:400}}
.kdsl .bar{{display:inline-block;width:120px;height:7px;border-radius:4px;background:var(--line);
margin-right:8px;vertical-align:middle;overflow:hidden}}
.kdsl .bar span{{display:block;height:100%;background:var(--vec)}}
.kdsl p{{margin:6px 12px}}
</style>"""


def card(title: str, subtitle: str, *parts: str) -> str:
    """A framed block with a heading. `title` and `subtitle` are text, the parts HTML."""
    head = f"<header><b>{html.escape(title)}</b><span>{html.escape(subtitle)}</span></header>"
    return f'{_STYLE}<div class="kdsl">{head}{"".join(parts)}</div>'


def source_page(title: str, subtitle: str, text: str) -> str:
    """The Python text of a kernel."""
    return card(title, subtitle, pre(map(plain_line, text.rstrip().split("\n"))))


def schedule_page(s: Schedule) -> str:
    """The nest of a schedule, and its steps."""
    count = len(s.steps)
    subtitle = f"{count} {'step' if count == 1 else 'steps'}" if count else "no steps yet"
    unsafe = [
        f'<div class="unsafe"># unsafe: {html.escape(str(step))}</div>' for step in s.steps if step.unsafe
    ]
    listed = ""
    if count:
        steps = "".join([f"<li><code>{highlighted(str(step))}</code></li>" for step in s.steps])
        listed = f"<details><summary>Steps</summary><ol>{steps}</ol></details>"
    return card(s.func.name, subtitle, pre([*unsafe, *map(nest_line, nest_lines(s.func))]), listed)


def history_page(h: History) -> str:
    """Each step with what it changes; the nest before the first and after the last one."""
    (_, nest), *rest = h
    parts = [f"<details><summary><i>start</i></summary>{pre(map(plain_line, nest.split(chr(10))))}</details>"]
    for n, (step, after) in enumerate(rest, 1):
        lines = shortened(list(changes(nest.split("\n"), after.split("\n"))))
        body = pre([changed_line(sign, line) for sign, line in lines])
        opened = " open" if n == len(rest) else ""
        summary = f"<i>{n}</i>&ensp;<code>{highlighted(step)}</code>"
        parts.append(f"<details{opened}><summary>{summary}</summary>{body}</details>")
        nest = after
    if rest:
        last = pre(map(plain_line, nest.split("\n")))
        parts.append(f"<details><summary><i>the nest now</i></summary>{last}</details>")
    name = h[0][1].split("def ", 1)[-1].split("(", 1)[0]
    return card(name, f"history of {len(rest)} {'step' if len(rest) == 1 else 'steps'}", *parts)


def pre(lines: Iterable[str]) -> str:
    """Lines of HTML as a block of code."""
    return f"<pre>{''.join(lines)}</pre>"


def nest_line(line: NestLine, note: str = "") -> str:
    """A line of a nest, the role of its loop as a badge; `note` is HTML to its right."""
    comment = f"<i>  # {html.escape(line.comment)}</i>" if line.comment else ""
    return f"<div>{_code(line.text, line.stmt)}{comment}{note}</div>"


def plain_line(text: str) -> str:
    """A line of code."""
    return f"<div>{highlighted(text)}</div>"


def changed_line(sign: Sign, text: str) -> str:
    """A line of a comparison."""
    kind = {" ": "", "+": ' class="add"', "-": ' class="del"'}[sign]
    return f'<div{kind}><span class="sign">{sign} </span>{highlighted(text)}</div>'


def _code(text: str, stmt: Stmt | None) -> str:
    return highlighted(text, isinstance(stmt, Loop) and stmt.mark is not None)


def highlighted(text: str, marked: bool = True) -> str:
    """A line of Python in colours, the roles of loops as badges."""
    out: list[str] = []
    at = 0
    lead = text[: len(text) - len(text.lstrip())]
    body = text[len(lead) :]
    for kind, token, start, end in _tokens(body):
        out.append(html.escape(body[at:start], quote=False))
        out.append(_token(kind, token, marked and body.startswith("for ")))
        at = end
    return lead + "".join(out) + html.escape(body[at:], quote=False)


def _tokens(line: str) -> Sequence[tuple[int, str, int, int]]:
    """Kind, text, start and end of each token of a line, which may be part of a statement."""
    found = []
    try:
        for t in tokenize.generate_tokens(io.StringIO(line).readline):
            if t.start[0] == 1 and t.string.strip():
                found.append((t.type, t.string, t.start[1], t.end[1]))
    except (tokenize.TokenError, IndentationError):
        pass  # a head without its body, a line of a longer expression: what was read so far is right
    return found


def _token(kind: int, text: str, is_loop: bool) -> str:
    escaped = html.escape(text, quote=False)
    if kind == tokenize.NAME and is_loop and text in ROLES:
        return f'<span class="role {ROLES[text]}">{escaped}</span>'
    if kind == tokenize.NAME and keyword.iskeyword(text):
        return f'<span class="k">{escaped}</span>'
    if kind == tokenize.NUMBER:
        return f'<span class="n">{escaped}</span>'
    if kind == tokenize.STRING:
        return f'<span class="s">{escaped}</span>'
    if kind == tokenize.COMMENT:
        return f"<i>{escaped}</i>"
    return escaped
