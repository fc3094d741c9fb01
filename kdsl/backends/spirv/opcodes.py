"""The part of SPIR-V that is used here: numbers of instructions and enumerants, and what their operands are.

Source: Khronos, "SPIR-V Specification", version 1.3, section 3.
"""

from __future__ import annotations

from enum import IntEnum

MAGIC = 0x07230203
VERSION = 0x00010300

OPS: dict[str, tuple[int, str]] = {
    # name: (number, operands): t result type, r result, i id, n literal number, s string, then enumerants by
    # the letters of `ENUMS`; "*" repeats the last one.
    "Name": (5, "is"),
    "Extension": (10, "s"),
    "ExtInstImport": (11, "rs"),
    "ExtInst": (12, "trigi*"),
    "MemoryModel": (14, "nn"),
    "EntryPoint": (15, "xisi*"),
    "ExecutionMode": (16, "imn*"),
    "Capability": (17, "c"),
    "TypeVoid": (19, "r"),
    "TypeBool": (20, "r"),
    "TypeInt": (21, "rnn"),
    "TypeFloat": (22, "rn"),
    "TypeVector": (23, "rin"),
    "TypeArray": (28, "rii"),
    "TypeRuntimeArray": (29, "ri"),
    "TypeStruct": (30, "ri*"),
    "TypePointer": (32, "rSi"),
    "TypeFunction": (33, "rii*"),
    "ConstantTrue": (41, "tr"),
    "ConstantFalse": (42, "tr"),
    "Constant": (43, "trn*"),
    "Function": (54, "trni"),
    "FunctionParameter": (55, "tr"),
    "FunctionEnd": (56, ""),
    "FunctionCall": (57, "trii*"),
    "Variable": (59, "trSi*"),
    "Load": (61, "trin*"),
    "Store": (62, "iin*"),
    "AccessChain": (65, "trii*"),
    "Decorate": (71, "idn*"),
    "MemberDecorate": (72, "indn*"),
    "CompositeConstruct": (80, "tri*"),
    "CompositeExtract": (81, "trin*"),
    "ConvertFToU": (109, "tri"),
    "ConvertFToS": (110, "tri"),
    "ConvertSToF": (111, "tri"),
    "ConvertUToF": (112, "tri"),
    "UConvert": (113, "tri"),
    "SConvert": (114, "tri"),
    "FConvert": (115, "tri"),
    "Bitcast": (124, "tri"),
    "FNegate": (127, "tri"),
    "IAdd": (128, "trii"),
    "FAdd": (129, "trii"),
    "ISub": (130, "trii"),
    "FSub": (131, "trii"),
    "IMul": (132, "trii"),
    "FMul": (133, "trii"),
    "UDiv": (134, "trii"),
    "SDiv": (135, "trii"),
    "FDiv": (136, "trii"),
    "UMod": (137, "trii"),
    "LogicalEqual": (164, "trii"),
    "LogicalNotEqual": (165, "trii"),
    "LogicalOr": (166, "trii"),
    "LogicalAnd": (167, "trii"),
    "LogicalNot": (168, "tri"),
    "Select": (169, "triii"),
    "IEqual": (170, "trii"),
    "INotEqual": (171, "trii"),
    "UGreaterThan": (172, "trii"),
    "SGreaterThan": (173, "trii"),
    "UGreaterThanEqual": (174, "trii"),
    "SGreaterThanEqual": (175, "trii"),
    "ULessThan": (176, "trii"),
    "SLessThan": (177, "trii"),
    "ULessThanEqual": (178, "trii"),
    "SLessThanEqual": (179, "trii"),
    "FOrdEqual": (180, "trii"),
    "FUnordNotEqual": (183, "trii"),
    "FOrdLessThan": (184, "trii"),
    "FOrdGreaterThan": (186, "trii"),
    "FOrdLessThanEqual": (188, "trii"),
    "FOrdGreaterThanEqual": (190, "trii"),
    "ShiftRightLogical": (194, "trii"),
    "ShiftRightArithmetic": (195, "trii"),
    "ShiftLeftLogical": (196, "trii"),
    "BitwiseOr": (197, "trii"),
    "BitwiseXor": (198, "trii"),
    "BitwiseAnd": (199, "trii"),
    "Not": (200, "tri"),
    "ControlBarrier": (224, "iii"),
    "AtomicLoad": (227, "triii"),
    "AtomicStore": (228, "iiii"),
    "AtomicCompareExchange": (230, "triiiiii"),
    "AtomicIAdd": (234, "triiii"),
    "AtomicSMin": (236, "triiii"),
    "AtomicUMin": (237, "triiii"),
    "AtomicSMax": (238, "triiii"),
    "AtomicUMax": (239, "triiii"),
    "AtomicOr": (241, "triiii"),
    "Phi": (245, "tri*"),
    "LoopMerge": (246, "iin"),
    "SelectionMerge": (247, "in"),
    "Label": (248, "r"),
    "Branch": (249, "i"),
    "BranchConditional": (250, "iiin*"),
    "Return": (253, ""),
    "ReturnValue": (254, "i"),
    "Unreachable": (255, ""),
    "GroupNonUniformElect": (333, "tri"),
    "GroupNonUniformIAdd": (349, "trini*"),
    "GroupNonUniformFAdd": (350, "trini*"),
    "GroupNonUniformIMul": (351, "trini*"),
    "GroupNonUniformFMul": (352, "trini*"),
    "GroupNonUniformSMin": (353, "trini*"),
    "GroupNonUniformUMin": (354, "trini*"),
    "GroupNonUniformFMin": (355, "trini*"),
    "GroupNonUniformSMax": (356, "trini*"),
    "GroupNonUniformUMax": (357, "trini*"),
    "GroupNonUniformFMax": (358, "trini*"),
    "GroupNonUniformBitwiseAnd": (359, "trini*"),
}


class Capability(IntEnum):
    Shader = 1
    Float64 = 10
    Int64 = 11
    Int64Atomics = 12
    GroupNonUniform = 61
    GroupNonUniformArithmetic = 63
    StorageBuffer16BitAccess = 4433
    StorageBuffer8BitAccess = 4448


class Storage(IntEnum):
    """Storage classes."""

    Input = 1
    Workgroup = 4
    Private = 6
    Function = 7
    PushConstant = 9
    StorageBuffer = 12


class Decoration(IntEnum):
    Block = 2
    ArrayStride = 6
    BuiltIn = 11
    Restrict = 19
    Aliased = 20
    Coherent = 23
    NonWritable = 24
    Binding = 33
    DescriptorSet = 34
    Offset = 35
    NoContraction = 42


class BuiltIn(IntEnum):
    NumWorkgroups = 24
    WorkgroupId = 26
    LocalInvocationId = 27


class Mode(IntEnum):
    """Execution modes."""

    LocalSize = 17


class Model(IntEnum):
    """Execution models."""

    GLCompute = 5


class Glsl(IntEnum):
    """Instructions of the set GLSL.std.450. Source: Khronos, "SPIR-V Extended Instructions for GLSL"."""

    RoundEven = 2
    Trunc = 3
    Floor = 8
    Ceil = 9
    Sqrt = 31
    FindILsb = 73
    FindUMsb = 75


ENUMS: dict[str, type[IntEnum]] = {
    "c": Capability, "S": Storage, "d": Decoration, "m": Mode, "x": Model, "g": Glsl,
}  # fmt: skip

DEVICE_SCOPE, WORKGROUP_SCOPE, SUBGROUP_SCOPE = 1, 2, 3
REDUCE = 0
RELAXED, ACQUIRE, RELEASE, ACQUIRE_RELEASE = 0, 0x2, 0x4, 0x8
UNIFORM_MEMORY, WORKGROUP_MEMORY = 0x40, 0x100
LOGICAL_ADDRESSING, GLSL450_MEMORY = 0, 1
UNROLL, DONT_UNROLL = 1, 2
