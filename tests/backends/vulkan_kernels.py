"""Kernels for the Vulkan run time made by hand: SPIR-V as assembly, manifests, and how they are loaded."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from kdsl.backends import vulkan
from kdsl.backends.base import Artifact
from kdsl.dtypes import DType, f32

needs_vulkan = pytest.mark.skipif(vulkan.available() is not None, reason=f"no Vulkan: {vulkan.available()}")

# `Y[i] += a * X[i]`, then 64 elements a work-group. `status` as the run time explains it: an X[i] that is not
# a number is the fault of site 1, with value i and extent 7.
SAXPY = """
OpCapability Shader
OpMemoryModel Logical GLSL450
OpEntryPoint GLCompute %main "saxpy_0" %gid
OpExecutionMode %main LocalSize 64 1 1
OpDecorate %gid BuiltIn GlobalInvocationId
OpDecorate %floats ArrayStride 4
OpDecorate %words ArrayStride 4
OpDecorate %buffer Block
OpMemberDecorate %buffer 0 Offset 0
OpDecorate %report Block
OpMemberDecorate %report 0 Offset 0
OpDecorate %X DescriptorSet 0
OpDecorate %X Binding 0
OpDecorate %Y DescriptorSet 0
OpDecorate %Y Binding 1
OpDecorate %status DescriptorSet 0
OpDecorate %status Binding 2
OpDecorate %push Block
OpMemberDecorate %push 0 Offset 0
OpMemberDecorate %push 1 Offset 4
%void = OpTypeVoid
%fn = OpTypeFunction %void
%u32 = OpTypeInt 32 0
%i32 = OpTypeInt 32 1
%f32 = OpTypeFloat 32
%bool = OpTypeBool
%v3 = OpTypeVector %u32 3
%pv3 = OpTypePointer Input %v3
%gid = OpVariable %pv3 Input
%floats = OpTypeRuntimeArray %f32
%words = OpTypeRuntimeArray %u32
%buffer = OpTypeStruct %floats
%report = OpTypeStruct %words
%pbuffer = OpTypePointer StorageBuffer %buffer
%preport = OpTypePointer StorageBuffer %report
%pf = OpTypePointer StorageBuffer %f32
%pw = OpTypePointer StorageBuffer %u32
%X = OpVariable %pbuffer StorageBuffer
%Y = OpVariable %pbuffer StorageBuffer
%status = OpVariable %preport StorageBuffer
%push = OpTypeStruct %i32 %f32
%ppush = OpTypePointer PushConstant %push
%pc = OpVariable %ppush PushConstant
%pi = OpTypePointer PushConstant %i32
%pcf = OpTypePointer PushConstant %f32
%c0 = OpConstant %i32 0
%c1 = OpConstant %i32 1
%c3 = OpConstant %i32 3
%c4 = OpConstant %i32 4
%c6 = OpConstant %i32 6
%u1 = OpConstant %u32 1
%u7 = OpConstant %u32 7
%main = OpFunction %void None %fn
%entry = OpLabel
%g = OpLoad %v3 %gid
%x = OpCompositeExtract %u32 %g 0
%i = OpBitcast %i32 %x
%np = OpAccessChain %pi %pc %c0
%n = OpLoad %i32 %np
%ap = OpAccessChain %pcf %pc %c1
%a = OpLoad %f32 %ap
%lt = OpSLessThan %bool %i %n
OpSelectionMerge %end None
OpBranchConditional %lt %then %end
%then = OpLabel
%xp = OpAccessChain %pf %X %c0 %i
%xv = OpLoad %f32 %xp
%nan = OpIsNan %bool %xv
OpSelectionMerge %go None
OpBranchConditional %nan %bad %go
%bad = OpLabel
%s3 = OpAccessChain %pw %status %c0 %c3
OpStore %s3 %u1
%s4 = OpAccessChain %pw %status %c0 %c4
OpStore %s4 %x
%s6 = OpAccessChain %pw %status %c0 %c6
OpStore %s6 %u7
OpBranch %go
%go = OpLabel
%yp = OpAccessChain %pf %Y %c0 %i
%yv = OpLoad %f32 %yp
%m = OpFMul %f32 %a %xv
%s = OpFAdd %f32 %m %yv
OpStore %yp %s
OpBranch %end
%end = OpLabel
OpReturn
OpFunctionEnd
"""

MANIFEST: dict[str, Any] = {
    "version": 1,
    "kernel": "saxpy",
    "spirv": "1.3",
    "features": [],
    "conditions": ["N != 13"],
    "buffers": [
        {
            "binding": 0,
            "name": "X",
            "kind": "argument",
            "dtype": "f32",
            "shape": ["N"],
            "read": True,
            "written": False,
        },
        {
            "binding": 1,
            "name": "Y",
            "kind": "argument",
            "dtype": "f32",
            "shape": ["N"],
            "read": True,
            "written": True,
        },
        {
            "binding": 2,
            "name": "status",
            "kind": "status",
            "dtype": "u32",
            "shape": [],
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
    "entries": [{"name": "saxpy_0", "groups": ["(N + 63) // 64", "1", "1"], "block": [64, 1, 1]}],
    "program": [{"dispatch": 0}],
}


def assembled(text: str) -> bytes:
    """SPIR-V for Vulkan 1.1."""
    if shutil.which("spirv-as") is None:
        pytest.skip("spirv-as is not installed (Debian: apt-get install spirv-tools)")
    command = ["spirv-as", "--target-env", "vulkan1.1", "-o", "-", "-"]
    return subprocess.run(command, input=text.encode(), capture_output=True, check=True).stdout


class Hand:
    """A kernel made by hand, callable with NumPy arrays and device memory."""

    def __init__(self, manifest: Mapping[str, Any] = MANIFEST, text: str = SAXPY) -> None:
        target = vulkan.devices()[0].target(0)
        artifact = Artifact(target, "saxpy", vulkan.pack(manifest, assembled(text)), (), ())
        scalars: dict[str, DType] = {"a": f32}
        self.executable = vulkan.load(artifact, ["N"], scalars)

    def __call__(self, n: int, a: float, *arrays: Any, same: Any = None) -> None:
        key, plan = self.executable.plan((n,), (np.float32(a),))
        assert not plan.failing
        errors = lambda fault: IndexError(*fault)  # noqa: E731
        self.executable.run(key, plan, arrays, [True] * len(arrays), errors, same)  # type: ignore[arg-type]
