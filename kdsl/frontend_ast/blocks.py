"""Blocks and their exits become branches and flags.

```
block:                          if c: r = 1         block:               left = False
    if c: r = 1; exit           else: r = 2             for ...:         for ...:
    r = 2                                                   if c: exit       if c: left = True; break
                                                        r = 2            if not left: r = 2
```
"""

from __future__ import annotations

from kdsl.frontend_ast import core
from kdsl.frontend_ast.webs import Web, Webs


def remove_blocks(body: core.Body, webs: Webs) -> core.Body:
    """An equal body without Block and Exit; the flags' webs are added to `webs`."""
    remover = _Remover(webs)
    out = remover.body(body)
    return _without(out, remover.unread)


class _Remover:
    """`stack`: the blocks (and, as None, the loops) around the point."""

    def __init__(self, webs: Webs) -> None:
        self.webs = webs
        self.stack: list[core.Block | None] = []
        self.flags: dict[int, Web] = {}
        self.read: set[int] = set()
        self.sets: dict[int, list[core.Assign]] = {}
        self.unread: set[int] = set()

    def body(self, body: core.Body) -> core.Body:
        out: core.Body = []
        for at, s in enumerate(body):
            tail = body[at + 1 :]
            escapes = _escapes(s)
            # Inside a loop of its block an exit is a `break`; elsewhere what follows must be skipped.
            skipping = [b for b in escapes if not self._looped(b)]
            match s:
                case core.Exit():
                    out.append(self._set(s.block, True))
                    if self._looped(s.block):
                        out.append(core.Break(s.loc))
                    return out
                case core.Block():
                    self.stack.append(s)
                    inner = self.body(s.body)
                    self.stack.pop()
                    if id(s) in self.read:
                        out.append(self._set(s, False))
                    else:
                        self.unread |= {id(a) for a in self.sets.get(id(s), ())}
                    out += inner
                case core.If():
                    then_ends, else_ends = _ends(s.then), _ends(s.orelse)
                    s.then, s.orelse = self.body(s.then), self.body(s.orelse)
                    out.append(s)
                    if skipping and tail and (then_ends or else_ends):
                        rest = self.body(tail)
                        if then_ends:
                            s.orelse += rest if not else_ends else []
                        else:
                            s.then += rest
                        return out
                case core.For() | core.While():
                    self.stack.append(None)
                    s.body = self.body(s.body)
                    self.stack.pop()
                    out.append(s)
                    for b in escapes:
                        if self._looped(b):
                            out.append(core.If(self._flag(b), [core.Break(s.loc)], [], s.loc))
                case _:
                    out.append(s)
            if skipping and tail:
                cond: core.Expr = core.Un("not", self._flag(skipping[0]), s.loc)
                for b in skipping[1:]:
                    cond = core.Logic("and", cond, core.Un("not", self._flag(b), s.loc), s.loc)
                out.append(core.If(cond, self.body(tail), [], s.loc))
                return out
        return out

    def _looped(self, block: core.Block) -> bool:
        """Whether there is a loop between this point and `block` around it."""
        return None in self.stack[self.stack.index(block) + 1 :]

    def _web(self, block: core.Block) -> Web:
        web = self.flags.get(id(block))
        if web is None:
            var = core.Variable("left", block.loc, checked=False)
            web = self.flags[id(block)] = Web(var)
            self.webs.all.append(web)
        return web

    def _set(self, block: core.Block, value: bool) -> core.Assign:
        web = self._web(block)
        s = core.Assign(web.var, core.Num(value, loc=block.loc), loc=block.loc)
        self.webs.of_stmt[id(s)] = web
        self.webs.kept.append(s)
        self.sets.setdefault(id(block), []).append(s)
        return s

    def _flag(self, block: core.Block) -> core.Ref:
        web = self._web(block)
        ref = core.Ref(web.var, block.loc)
        self.webs.of_ref[id(ref)] = web
        self.webs.kept.append(ref)
        self.read.add(id(block))
        return ref


def _escapes(s: core.Stmt) -> list[core.Block]:
    """The blocks around `s` that something in it leaves."""
    found: dict[int, core.Block] = {}
    inside: set[int] = set()

    def visit(s: core.Stmt) -> None:
        match s:
            case core.Exit():
                found[id(s.block)] = s.block
            case core.For() | core.While() | core.Block():
                if isinstance(s, core.Block):
                    inside.add(id(s))
                for n in s.body:
                    visit(n)
            case core.If():
                for n in [*s.then, *s.orelse]:
                    visit(n)
            case _:
                pass

    visit(s)
    return [b for n, b in found.items() if n not in inside]


def _ends(body: core.Body) -> bool:
    """Whether control never reaches the end of `body`."""
    if not body:
        return False
    match body[-1]:
        case core.Exit() | core.Break() | core.Continue() | core.Return():
            return True
        case core.If() as s:
            return _ends(s.then) and _ends(s.orelse)
        case _:
            return False


def _without(body: core.Body, dropped: set[int]) -> core.Body:
    out: core.Body = []
    for s in body:
        if id(s) in dropped:
            continue
        match s:
            case core.For() | core.While() | core.Block():
                s.body = _without(s.body, dropped)
            case core.If():
                s.then, s.orelse = _without(s.then, dropped), _without(s.orelse, dropped)
                if not s.then and s.orelse:
                    s.cond, s.then, s.orelse = core.Un("not", s.cond, s.loc), s.orelse, []
            case _:
                pass
        out.append(s)
    return out
