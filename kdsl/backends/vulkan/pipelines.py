"""A kernel's SPIR-V module on a device: one pipeline for each entry point, and the layouts they share."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Mapping
from typing import Any, Protocol

from kdsl.backends.vulkan.api import check, ffi, lib
from kdsl.backends.vulkan.device import Device

DESCRIPTOR_SETS = 16
"""How many sets one descriptor pool has."""


class Blobs(Protocol):
    """Where compiled pipelines are kept between processes."""

    def get(self, key: str) -> bytes | None: ...

    def put(self, key: str, data: bytes) -> None: ...


class Handles:
    """What a kernel has made on a device; `close` destroys it once nothing under way uses it."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.pipelines: list[Any] = []
        self.descriptor_pools: list[Any] = []
        self.layout: Any = ffi.NULL
        self.set_layout: Any = ffi.NULL
        device.owners.add(self)

    def close(self) -> None:
        """Destroys everything."""
        handle = self.device.handle
        for pool in self.descriptor_pools:
            lib.vkDestroyDescriptorPool(handle, pool, ffi.NULL)
        for pipeline in self.pipelines:
            lib.vkDestroyPipeline(handle, pipeline, ffi.NULL)
        lib.vkDestroyPipelineLayout(handle, self.layout, ffi.NULL)
        lib.vkDestroyDescriptorSetLayout(handle, self.set_layout, ffi.NULL)


class Pipelines:
    """The pipelines of a kernel, by entry number; descriptor sets for its launches.

    When it is collected, its handles are destroyed at the device's next submission: whoever submits work
    with them keeps it alive until that is done.
    """

    def __init__(
        self, device: Device, manifest: Mapping[str, Any], spirv: bytes, blobs: Blobs | None
    ) -> None:
        self.device = device
        self._handles = Handles(device)
        weakref.finalize(self, device.garbage.append, self._handles).atexit = False
        self._bindings = [b["binding"] for b in manifest["buffers"]]
        parameters = manifest["parameters"]
        self.push_bytes: int = parameters["bytes"] if parameters["in"] == "push" else 0
        self._sets: list[Any] = []
        self._handles.set_layout = self._set_layout()
        self._handles.layout = self.layout = self._pipeline_layout()
        self.entries = self._made(manifest, spirv, blobs)

    # What follows is called under the device's lock.

    def take_set(self) -> Any:
        """A descriptor set that nobody uses."""
        if not self._sets:
            self._sets = self._more_sets()
        return self._sets.pop()

    def give_set(self, descriptor_set: Any) -> None:
        """Takes back a set that no work under way uses."""
        self._sets.append(descriptor_set)

    # -- making them

    def _set_layout(self) -> Any:
        bindings = ffi.new("VkDescriptorSetLayoutBinding[]", len(self._bindings))
        for row, number in zip(bindings, self._bindings):
            row.binding = number
            row.descriptorType = lib.VK_DESCRIPTOR_TYPE_STORAGE_BUFFER
            row.descriptorCount = 1
            row.stageFlags = lib.VK_SHADER_STAGE_COMPUTE_BIT
        info = ffi.new(
            "VkDescriptorSetLayoutCreateInfo *",
            {
                "sType": lib.VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
                "bindingCount": len(self._bindings),
                "pBindings": bindings,
            },
        )
        out = ffi.new("VkDescriptorSetLayout *")
        check(
            lib.vkCreateDescriptorSetLayout(self.device.handle, info, ffi.NULL, out),
            "make a descriptor set layout",
        )
        return out[0]

    def _pipeline_layout(self) -> Any:
        sets = ffi.new("VkDescriptorSetLayout[]", [self._handles.set_layout])
        pushed = ffi.new(
            "VkPushConstantRange *",
            {"stageFlags": lib.VK_SHADER_STAGE_COMPUTE_BIT, "offset": 0, "size": self.push_bytes},
        )
        info = ffi.new(
            "VkPipelineLayoutCreateInfo *",
            {
                "sType": lib.VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
                "setLayoutCount": 1,
                "pSetLayouts": sets,
                "pushConstantRangeCount": 1 if self.push_bytes else 0,
                "pPushConstantRanges": pushed,
            },
        )
        out = ffi.new("VkPipelineLayout *")
        check(lib.vkCreatePipelineLayout(self.device.handle, info, ffi.NULL, out), "make a pipeline layout")
        return out[0]

    def _made(self, manifest: Mapping[str, Any], spirv: bytes, blobs: Blobs | None) -> list[Any]:
        if not manifest["entries"]:
            return []  # a module without entry points is not valid
        handle = self.device.handle
        code = ffi.new("char[]", spirv)  # NUL at its end; cffi aligns it as any allocation
        module_info = ffi.new(
            "VkShaderModuleCreateInfo *",
            {
                "sType": lib.VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
                "codeSize": len(spirv),
                "pCode": ffi.cast("uint32_t *", code),
            },
        )
        module = ffi.new("VkShaderModule *")
        what = f"compile {manifest['kernel']}"
        check(lib.vkCreateShaderModule(handle, module_info, ffi.NULL, module), what)
        key = f"{self.device.physical.identity}-{hashlib.sha256(spirv).hexdigest()}"
        known = blobs.get(key) if blobs is not None else None
        cache = self._cache(known)
        names = [ffi.new("char[]", entry["name"].encode()) for entry in manifest["entries"]]
        infos = ffi.new("VkComputePipelineCreateInfo[]", len(names))
        for info, name in zip(infos, names):
            info.sType = lib.VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO
            info.stage.sType = lib.VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO
            info.stage.stage = lib.VK_SHADER_STAGE_COMPUTE_BIT
            info.stage.module = module[0]
            info.stage.pName = name
            info.layout = self.layout
        made = ffi.new("VkPipeline[]", len(names))
        try:
            result = lib.vkCreateComputePipelines(handle, cache, len(names), infos, ffi.NULL, made)
            self._handles.pipelines = [made[n] for n in range(len(names)) if made[n] != ffi.NULL]
            check(result, what)
            if blobs is not None and known is None:
                self._store(cache, key, blobs)
        finally:
            lib.vkDestroyPipelineCache(handle, cache, ffi.NULL)
            lib.vkDestroyShaderModule(handle, module[0], ffi.NULL)
        return list(self._handles.pipelines)

    def _cache(self, known: bytes | None) -> Any:
        data = ffi.new("char[]", known or b"\0")
        info = ffi.new(
            "VkPipelineCacheCreateInfo *",
            {
                "sType": lib.VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO,
                "initialDataSize": len(known or b""),
                "pInitialData": data,
            },
        )
        out = ffi.new("VkPipelineCache *")
        check(lib.vkCreatePipelineCache(self.device.handle, info, ffi.NULL, out), "make a pipeline cache")
        return out[0]

    def _store(self, cache: Any, key: str, blobs: Blobs) -> None:
        size = ffi.new("size_t *")
        what = "read a pipeline cache"
        check(lib.vkGetPipelineCacheData(self.device.handle, cache, size, ffi.NULL), what)
        data = ffi.new("char[]", size[0])
        check(lib.vkGetPipelineCacheData(self.device.handle, cache, size, data), what)
        blobs.put(key, bytes(ffi.buffer(data, size[0])))

    def _more_sets(self) -> list[Any]:
        handle, count = self.device.handle, max(len(self._bindings), 1) * DESCRIPTOR_SETS
        sizes = ffi.new(
            "VkDescriptorPoolSize *",
            {"type": lib.VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, "descriptorCount": count},
        )
        info = ffi.new(
            "VkDescriptorPoolCreateInfo *",
            {
                "sType": lib.VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
                "maxSets": DESCRIPTOR_SETS,
                "poolSizeCount": 1,
                "pPoolSizes": sizes,
            },
        )
        pool = ffi.new("VkDescriptorPool *")
        check(lib.vkCreateDescriptorPool(handle, info, ffi.NULL, pool), "make a descriptor pool")
        self._handles.descriptor_pools.append(pool[0])
        layouts = ffi.new("VkDescriptorSetLayout[]", [self._handles.set_layout] * DESCRIPTOR_SETS)
        wanted = ffi.new(
            "VkDescriptorSetAllocateInfo *",
            {
                "sType": lib.VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
                "descriptorPool": pool[0],
                "descriptorSetCount": DESCRIPTOR_SETS,
                "pSetLayouts": layouts,
            },
        )
        sets = ffi.new("VkDescriptorSet[]", DESCRIPTOR_SETS)
        check(lib.vkAllocateDescriptorSets(handle, wanted, sets), "make descriptor sets")
        return list(sets)
