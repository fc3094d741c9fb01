"""The validation layer, for tests: turned on by KDSL_VULKAN_VALIDATION, its messages collected.

`1`: the layer with synchronisation validation. `gpu`: with GPU-assisted validation besides (slow).
"""

from __future__ import annotations

import os
from typing import Any

from kdsl.backends.vulkan.api import check, ffi, lib, text
from kdsl.errors import TargetError

LAYER = "VK_LAYER_KHRONOS_validation"
VARIABLE = "KDSL_VULKAN_VALIDATION"
# What the layer says about its own settings, not about the program.
_ABOUT_ITSELF = (
    "UNASSIGNED-GPU-Assisted Validation Setup Error",
    "UNASSIGNED-khronos-validation-createinstance",
)

messages: list[str] = []
"""What the layer has said so far."""


class Validation:
    """What an instance needs for the layer; `settings` belongs into its pNext chain."""

    def __init__(self, mode: str) -> None:
        self._messenger: Any = None
        self._callback = ffi.callback("PFN_vkDebugUtilsMessengerCallbackEXT", _collect)
        self._info = ffi.new(
            "VkDebugUtilsMessengerCreateInfoEXT *",
            {
                "sType": lib.VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT,
                "messageSeverity": lib.VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT
                | lib.VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT,
                "messageType": lib.VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT
                | lib.VK_DEBUG_UTILS_MESSAGE_TYPE_GENERAL_BIT_EXT,
                "pfnUserCallback": self._callback,
            },
        )
        enabled = [lib.VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT]
        if mode == "gpu":
            enabled += [
                lib.VK_VALIDATION_FEATURE_ENABLE_GPU_ASSISTED_EXT,
                lib.VK_VALIDATION_FEATURE_ENABLE_GPU_ASSISTED_RESERVE_BINDING_SLOT_EXT,
            ]
        self._enabled = ffi.new("VkValidationFeatureEnableEXT[]", enabled)
        self.settings = ffi.new(
            "VkValidationFeaturesEXT *",
            {
                "sType": lib.VK_STRUCTURE_TYPE_VALIDATION_FEATURES_EXT,
                "pNext": self._info,
                "enabledValidationFeatureCount": len(enabled),
                "pEnabledValidationFeatures": self._enabled,
            },
        )

    def listen(self, instance: Any) -> None:
        """Makes the messenger."""
        create = _function(instance, "vkCreateDebugUtilsMessengerEXT")
        messenger = ffi.new("VkDebugUtilsMessengerEXT *")
        check(create(instance, self._info, ffi.NULL, messenger), "listen to the validation layer")
        self._messenger = messenger[0]

    def close(self, instance: Any) -> None:
        """Destroys the messenger; what the instance says while it is destroyed is still collected."""
        _function(instance, "vkDestroyDebugUtilsMessengerEXT")(instance, self._messenger, ffi.NULL)


def wanted() -> Validation | None:
    """The layer's settings if the environment asks for it; TargetError where it is not installed."""
    mode = os.environ.get(VARIABLE, "")
    if mode in ("", "0"):
        return None
    if not installed():
        raise TargetError(
            "K0535",
            f"{VARIABLE} is set, but the validation layer is not installed",
            help="Debian: apt-get install vulkan-validationlayers; or unset the variable",
        )
    return Validation(mode)


def installed() -> bool:
    """Whether the loader finds the layer."""
    count = ffi.new("uint32_t *")
    check(lib.vkEnumerateInstanceLayerProperties(count, ffi.NULL), "list the layers")
    found = ffi.new("VkLayerProperties[]", max(count[0], 1))
    check(lib.vkEnumerateInstanceLayerProperties(count, found), "list the layers")
    return LAYER in {text(found[n].layerName) for n in range(count[0])}


def _collect(severity: int, kind: int, data: Any, user: Any) -> int:
    name = text(data.pMessageIdName) if data.pMessageIdName != ffi.NULL else ""
    if name not in _ABOUT_ITSELF:
        messages.append(f"{name}: {text(data.pMessage)}")
    return 0


def _function(instance: Any, name: str) -> Any:
    return ffi.cast(f"PFN_{name}", lib.vkGetInstanceProcAddr(instance, name.encode()))
