"""What a Vulkan device can do: its name, features and limits, as the device reports them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kdsl.backends.vulkan.api import check, ffi, lib, text, version
from kdsl.target import Limits, Target

LEAST = (1, 1)
_KINDS = {1: "integrated GPU", 2: "GPU", 3: "virtual GPU", 4: "CPU"}
_ORDER = {2: 0, 1: 1, 3: 2, 4: 4}
"""Which device comes first: the fastest kind."""

# Structs of features beyond Vulkan 1.0: (name, since which version they need no extension, extension, its
# fields that kernels can use).
_FEATURES: tuple[tuple[str, tuple[int, int], str, tuple[str, ...]], ...] = (
    ("16BitStorageFeatures", (1, 1), "VK_KHR_16bit_storage", ("storageBuffer16BitAccess",)),
    ("8BitStorageFeatures", (1, 2), "VK_KHR_8bit_storage", ("storageBuffer8BitAccess",)),
    ("ShaderFloat16Int8Features", (1, 2), "VK_KHR_shader_float16_int8", ("shaderFloat16", "shaderInt8")),
    (
        "ShaderAtomicInt64Features",
        (1, 2),
        "VK_KHR_shader_atomic_int64",
        ("shaderBufferInt64Atomics", "shaderSharedInt64Atomics"),
    ),
    (
        "ShaderSubgroupExtendedTypesFeatures",
        (1, 2),
        "VK_KHR_shader_subgroup_extended_types",
        ("shaderSubgroupExtendedTypes",),
    ),
    (
        "VulkanMemoryModelFeatures",
        (1, 2),
        "VK_KHR_vulkan_memory_model",
        ("vulkanMemoryModel", "vulkanMemoryModelDeviceScope"),
    ),
    (
        "ShaderAtomicFloatFeaturesEXT",
        (9, 9),
        "VK_EXT_shader_atomic_float",
        (
            "shaderBufferFloat32Atomics",
            "shaderBufferFloat32AtomicAdd",
            "shaderBufferFloat64Atomics",
            "shaderBufferFloat64AtomicAdd",
            "shaderSharedFloat32Atomics",
            "shaderSharedFloat32AtomicAdd",
            "shaderSharedFloat64Atomics",
            "shaderSharedFloat64AtomicAdd",
        ),
    ),
)
_CORE = ("shaderFloat64", "shaderInt64", "shaderInt16")
_SUBGROUP = ("Basic", "Vote", "Arithmetic", "Ballot", "Shuffle", "ShuffleRelative", "Clustered", "Quad")
_FLOAT_CONTROLS = tuple(
    f"shader{what}Float{bits}"
    for what in ("SignedZeroInfNanPreserve", "DenormPreserve", "RoundingModeRTE")
    for bits in (16, 32, 64)
)
_SOURCES = ("VK_KHR_shader_float_controls", (1, 2))


@dataclass(frozen=True, slots=True, eq=False)
class Physical:
    """One device of the machine.

    `features`: what kernels can use, as Vulkan spells it (properties like `shaderDenormPreserveFloat32` and
    subgroup operations like `subgroupArithmetic` are among them). `missing`: why it cannot be used, else
    None. `family`: the queue family for compute. `timestamp_ns`: how long a tick of its clock is, 0 without
    one; `timestamp_bits`: after how many bits it starts anew. `identity` tells it and its driver from others.
    """

    handle: Any
    name: str
    kind: str
    rank: int
    version: tuple[int, int]
    family: int
    features: frozenset[str]
    extensions: tuple[str, ...]
    limits: Limits
    alignment: int
    timestamp_ns: float
    timestamp_bits: int
    identity: str
    missing: str | None

    def target(self, index: int) -> Target:
        """This device as a target of code generation."""
        return Target(
            "vulkan", index, cpu=self.name, features=",".join(sorted(self.features)), limits=self.limits
        )

    def feature_chain(self) -> tuple[Any, list[Any]]:
        """A VkPhysicalDeviceFeatures2 that turns `features` on, and what it points to."""
        first, structs = _chain("VkPhysicalDeviceFeatures2", _feature_structs(self.version, self.extensions))
        for name in _CORE:
            setattr(first.features, name, name in self.features)
        for struct, (_, _, _, fields) in structs:
            for field in fields:
                setattr(struct, field, field in self.features)
        return first, [struct for struct, _ in structs]


def physical_devices(instance: Any) -> list[Physical]:
    """The devices of an instance, the fastest kind first."""
    count = ffi.new("uint32_t *")
    check(lib.vkEnumeratePhysicalDevices(instance, count, ffi.NULL), "list the devices")
    handles = ffi.new("VkPhysicalDevice[]", max(count[0], 1))
    check(lib.vkEnumeratePhysicalDevices(instance, count, handles), "list the devices")
    return sorted([_physical(handles[n]) for n in range(count[0])], key=lambda p: p.rank)


def _physical(handle: Any) -> Physical:
    properties = ffi.new("VkPhysicalDeviceProperties *")
    lib.vkGetPhysicalDeviceProperties(handle, properties)
    number = version(properties.apiVersion)
    extensions = _extensions(handle)
    family, valid_bits = _compute_family(handle)
    missing = None
    if number < LEAST:
        missing = f"its driver knows Vulkan {number[0]}.{number[1]}, 1.1 is needed: install a newer driver"
    elif family < 0:
        missing = "it has no queue for compute"
    features, subgroup, identity = (
        (frozenset[str](), 1, "") if missing else _abilities(handle, number, extensions)
    )
    limits = properties.limits
    return Physical(
        handle,
        text(properties.deviceName),
        _KINDS.get(properties.deviceType, "device"),
        _ORDER.get(properties.deviceType, 3),
        number,
        family,
        features,
        tuple(sorted(extensions)),
        Limits(
            invocations=limits.maxComputeWorkGroupInvocations,
            block=tuple(limits.maxComputeWorkGroupSize),
            groups=tuple(limits.maxComputeWorkGroupCount),
            shared_bytes=limits.maxComputeSharedMemorySize,
            push_bytes=limits.maxPushConstantsSize,
            storage_bytes=limits.maxStorageBufferRange,
            buffers=min(limits.maxPerStageDescriptorStorageBuffers, limits.maxDescriptorSetStorageBuffers),
            subgroup=subgroup,
        ),
        max(limits.minStorageBufferOffsetAlignment, 16),
        limits.timestampPeriod if valid_bits else 0.0,
        valid_bits,
        f"{properties.vendorID:x}-{properties.deviceID:x}-{properties.driverVersion:x}-{identity}",
        missing,
    )


def _abilities(
    handle: Any, number: tuple[int, int], extensions: frozenset[str]
) -> tuple[frozenset[str], int, str]:
    """Features, subgroup size, and the driver's identity."""
    features, structs = _chain("VkPhysicalDeviceFeatures2", _feature_structs(number, extensions))
    lib.vkGetPhysicalDeviceFeatures2(handle, features)
    found = {name for name in _CORE if getattr(features.features, name)}
    for struct, (_, _, _, fields) in structs:
        found |= {field for field in fields if getattr(struct, field)}

    wanted: list[tuple[str, Any]] = [
        ("VkPhysicalDeviceSubgroupProperties", None),
        ("VkPhysicalDeviceIDProperties", None),
    ]
    if number >= _SOURCES[1] or _SOURCES[0] in extensions:
        wanted.append(("VkPhysicalDeviceFloatControlsProperties", None))
    properties, more = _chain("VkPhysicalDeviceProperties2", wanted)
    lib.vkGetPhysicalDeviceProperties2(handle, properties)
    subgroup, identity = more[0][0], more[1][0]
    if subgroup.supportedStages & lib.VK_SHADER_STAGE_COMPUTE_BIT:
        found |= {f"subgroup{op}" for n, op in enumerate(_SUBGROUP) if subgroup.supportedOperations >> n & 1}
    if len(more) == 3:
        found |= {name for name in _FLOAT_CONTROLS if getattr(more[2][0], name)}
    return frozenset(found), subgroup.subgroupSize, bytes(identity.driverUUID).hex()


def _feature_structs(
    number: tuple[int, int], extensions: frozenset[str] | tuple[str, ...]
) -> list[tuple[str, Any]]:
    return [
        (f"VkPhysicalDevice{row[0]}", row) for row in _FEATURES if number >= row[1] or row[2] in extensions
    ]


def wanted_extensions(physical: Physical) -> list[str]:
    """The extensions that a logical device needs for the features."""
    out = [row[2] for row in _FEATURES if physical.version < row[1] and row[2] in physical.extensions]
    if physical.version < _SOURCES[1] and _SOURCES[0] in physical.extensions:
        out.append(_SOURCES[0])
    return out


def _chain(head: str, structs: list[tuple[str, Any]]) -> tuple[Any, list[tuple[Any, Any]]]:
    """A struct and those that its pNext leads to, each with what was given beside its name."""
    first = ffi.new(f"{head} *", {"sType": _type_number(head)})
    made, before = [], first
    for name, row in structs:
        struct = ffi.new(f"{name} *", {"sType": _type_number(name)})
        before.pNext = ffi.cast("void *", struct)
        made.append((struct, row))
        before = struct
    return first, made


def _type_number(struct: str) -> int:
    """The VkStructureType of a struct: VkPhysicalDevice16BitStorageFeatures -> ..._16BIT_STORAGE_FEATURES."""
    return int(getattr(lib, _TYPES[struct]))


_TYPES = {
    f"Vk{name}": f"VK_STRUCTURE_TYPE_{number}"
    for name, number in {
        "PhysicalDeviceFeatures2": "PHYSICAL_DEVICE_FEATURES_2",
        "PhysicalDeviceProperties2": "PHYSICAL_DEVICE_PROPERTIES_2",
        "PhysicalDevice16BitStorageFeatures": "PHYSICAL_DEVICE_16BIT_STORAGE_FEATURES",
        "PhysicalDevice8BitStorageFeatures": "PHYSICAL_DEVICE_8BIT_STORAGE_FEATURES",
        "PhysicalDeviceShaderFloat16Int8Features": "PHYSICAL_DEVICE_SHADER_FLOAT16_INT8_FEATURES",
        "PhysicalDeviceShaderAtomicInt64Features": "PHYSICAL_DEVICE_SHADER_ATOMIC_INT64_FEATURES",
        "PhysicalDeviceShaderSubgroupExtendedTypesFeatures": (
            "PHYSICAL_DEVICE_SHADER_SUBGROUP_EXTENDED_TYPES_FEATURES"
        ),
        "PhysicalDeviceVulkanMemoryModelFeatures": "PHYSICAL_DEVICE_VULKAN_MEMORY_MODEL_FEATURES",
        "PhysicalDeviceShaderAtomicFloatFeaturesEXT": "PHYSICAL_DEVICE_SHADER_ATOMIC_FLOAT_FEATURES_EXT",
        "PhysicalDeviceSubgroupProperties": "PHYSICAL_DEVICE_SUBGROUP_PROPERTIES",
        "PhysicalDeviceIDProperties": "PHYSICAL_DEVICE_ID_PROPERTIES",
        "PhysicalDeviceFloatControlsProperties": "PHYSICAL_DEVICE_FLOAT_CONTROLS_PROPERTIES",
    }.items()
}


def _extensions(handle: Any) -> frozenset[str]:
    count = ffi.new("uint32_t *")
    what = "list the extensions of a device"
    check(lib.vkEnumerateDeviceExtensionProperties(handle, ffi.NULL, count, ffi.NULL), what)
    found = ffi.new("VkExtensionProperties[]", max(count[0], 1))
    check(lib.vkEnumerateDeviceExtensionProperties(handle, ffi.NULL, count, found), what)
    return frozenset(text(found[n].extensionName) for n in range(count[0]))


def _compute_family(handle: Any) -> tuple[int, int]:
    """The queue family for compute, -1 without one, and the valid bits of its timestamps."""
    count = ffi.new("uint32_t *")
    lib.vkGetPhysicalDeviceQueueFamilyProperties(handle, count, ffi.NULL)
    found = ffi.new("VkQueueFamilyProperties[]", max(count[0], 1))
    lib.vkGetPhysicalDeviceQueueFamilyProperties(handle, count, found)
    families = [
        n for n in range(count[0]) if found[n].queueFlags & lib.VK_QUEUE_COMPUTE_BIT and found[n].queueCount
    ]
    return (families[0], found[families[0]].timestampValidBits) if families else (-1, 0)
