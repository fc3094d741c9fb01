"""The module builder, the words that it makes, and their text."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess

import pytest

from kdsl.backends import spirv
from kdsl.backends.spirv.arith import Arith
from kdsl.backends.spirv.disassemble import disassemble
from kdsl.backends.spirv.manifest import fields, pack, unpack
from kdsl.backends.spirv.module import Code, Module, instruction
from kdsl.backends.spirv.opcodes import OPS, Storage
from kdsl.dtypes import f32, f64, i32, i64
from kdsl.ir.parser import parse_func
from tests.backends.spirv_harness import EVERYTHING, compiled, needs_validator, valid

SAXPY = """
def saxpy(a: f32, x: f32[64 * N], y: f32[64 * N]):
    for i_o in bind(range(min(N, 9)), "grid.x"):
        for i_i in bind(range(64), "block.x"):
            y[i_o * 64 + i_i] += a * x[i_o * 64 + i_i]
"""


def test_an_instruction_is_its_length_its_number_and_its_operands() -> None:
    assert instruction("IAdd", 1, 2, 3, 4) == [5 << 16 | 128, 1, 2, 3, 4]
    assert instruction("Name", 7, "abc") == [3 << 16 | 5, 7, 0x00636261]
    assert instruction("Name", 7, "abcd") == [4 << 16 | 5, 7, 0x64636261, 0]
    assert instruction("Constant", 1, 2, -1) == [4 << 16 | 43, 1, 2, 0xFFFFFFFF]


def test_an_empty_module() -> None:
    words = struct.unpack("<10I", Module().words())
    assert words == (0x07230203, 0x00010300, 0, 1, 0, 2 << 16 | 17, 1, 3 << 16 | 14, 0, 1)


def test_types_and_constants_are_unique() -> None:
    m = Module()
    assert m.type("i32") == m.type("i32") != m.type("i64")
    assert m.type("f32x4") == m.type("f32x4")
    assert m.constant("i32", -1) == m.constant("i32", 0xFFFFFFFF) != m.constant("i64", -1)
    assert m.constant("f32", 0.0) != m.constant("f32", -0.0)
    assert m.number(m.constant("i32", 0xFFFFFFFF)) == -1
    array = m.array(m.type("f32"), 8)
    assert m.array(m.type("f32"), 8) == array != m.array(m.type("f32"), 9)
    pointer = m.pointer(Storage.Function, array)
    assert m.pointer(Storage.Function, array) == pointer != m.pointer(Storage.Private, array)


def test_pure_instructions_are_made_once_where_they_are_known() -> None:
    code = Code(Module()).start()
    a = Arith(code)
    x = code.value("Load", "i32", 100)
    first = a.op("IAdd", "i32", x, a.const("i32", 5))
    assert a.op("IAdd", "i32", x, a.const("i32", 5)) == first
    inner: list[int] = []
    code.select(code.pure("SLessThan", "bool", x, first), lambda: inner.append(a.op("Not", "i32", x)))
    assert a.op("Not", "i32", x) != inner[0]


def test_constants_are_folded() -> None:
    a = Arith(Code(Module()).start())
    two, three = a.const("i32", 2), a.const("i32", 3)
    assert a.op("IMul", "i32", two, three) == a.const("i32", 6)
    x = a.code.value("Load", "i32", 100)
    assert a.op("IAdd", "i32", x, a.const("i32", 0)) == x == a.op("IMul", "i32", a.const("i32", 1), x)
    assert a.op("IMul", "i32", x, a.const("i32", 0)) == a.const("i32", 0)
    assert a.binary("<<", i32, a.const("i32", 1), a.const("i32", 32)) == a.const("i32", 0)


def test_parameters_lie_without_holes() -> None:
    laid, nbytes = fields(
        [("N", "size", i32), ("x", "scalar", f64), ("a", "scalar", f32), ("t", "host", i64)]
    )
    assert [(f.name, f.offset) for f in laid] == [("x", 0), ("t", 8), ("N", 16), ("a", 20)]
    assert nbytes == 24


def test_the_container() -> None:
    code = pack({"kernel": "f"}, b"12345678")
    assert unpack(code) == ({"kernel": "f"}, b"12345678")


def test_the_manifest_of_a_kernel() -> None:
    manifest = unpack(compiled(parse_func(SAXPY), EVERYTHING).code)[0]
    assert manifest == {
        "version": 1,
        "kernel": "saxpy",
        "spirv": "1.3",
        "features": [],
        "buffers": [
            {
                "binding": 0,
                "name": "x",
                "kind": "argument",
                "dtype": "f32",
                "shape": ["64 * N"],
                "read": True,
                "written": False,
            },
            {
                "binding": 1,
                "name": "y",
                "kind": "argument",
                "dtype": "f32",
                "shape": ["64 * N"],
                "read": True,
                "written": True,
            },
        ],
        "parameters": {
            "in": "push",
            "bytes": 8,
            "fields": [
                {"name": "N", "kind": "size", "dtype": "i32", "offset": 0},
                {"name": "a", "kind": "scalar", "dtype": "f32", "offset": 4},
            ],
        },
        "conditions": [],
        "entries": [
            {
                "name": "saxpy_0",
                "groups": ["min(N, 9)", "1", "1"],
                "block": [64, 1, 1],
                "shared_bytes": 0,
                "reads": [0, 1],
                "writes": [1],
            }
        ],
        "program": [{"dispatch": 0}],
    }  # fmt: skip


def test_the_text_of_a_kernel() -> None:
    """The body of the entry point; ids are numbered as they are made."""
    text = spirv.text(compiled(parse_func(SAXPY), EVERYTHING))
    lines = [line.split("=")[-1].split() for line in text.split("\n") if line]
    body = [line[0] for line in lines[[line[0] for line in lines].index("OpFunction") :]]
    text_of_body = " ".join([op.removeprefix("Op") for op in body])
    assert text_of_body == (
        "Function Label Load CompositeExtract Load CompositeExtract AccessChain Load AccessChain Load "
        "SLessThan Select SLessThan SelectionMerge BranchConditional Label IMul IAdd AccessChain Load FMul "
        "AccessChain Load FAdd Store Branch Label Return FunctionEnd"
    )
    assert '               OpEntryPoint GLCompute %saxpy_0 "saxpy_0" %WorkgroupId' in text
    assert "               OpExecutionMode %saxpy_0 LocalSize 64 1 1" in text
    assert "               OpDecorate %x NonWritable" in text


@needs_validator
def test_a_kernel_is_valid() -> None:
    valid(compiled(parse_func(SAXPY), EVERYTHING))


@pytest.mark.skipif(shutil.which("spirv-dis") is None, reason="no spirv-dis (spirv-tools)")
def test_the_disassembler_agrees_with_the_one_of_spirv_tools() -> None:
    module = unpack(compiled(parse_func(SAXPY), EVERYTHING).code)[1]
    command = ["spirv-dis", "--raw-id", "--no-color", "--no-header", "-"]
    done = subprocess.run(command, input=module, capture_output=True, timeout=60, check=True)

    def lines(text: str) -> list[str]:
        """Ids are numbers there and names here; numbers of floats are written otherwise."""
        kept = [re.sub(r"%\w+", "%", line.strip()) for line in text.split("\n") if "Op" in line]
        return [line.rsplit(" ", 1)[0] if "OpConstant " in line else line for line in kept]

    assert lines(done.stdout.decode()) == lines(disassemble(module))


def test_numbers_of_instructions_are_unique() -> None:
    numbers = [number for number, _ in OPS.values()]
    assert len(set(numbers)) == len(numbers)
