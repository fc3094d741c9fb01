"""How long the work of some calls takes on a device, without transfers and Python: by the device's clock."""

from __future__ import annotations

from types import TracebackType

from kdsl.errors import ArgumentError
from kdsl.runtime.targets import resolve


class DeviceTimer:
    """`with DeviceTimer("vulkan") as timer: kernel(x, y)`; then `timer.elapsed_ms`, which waits for the work.

    Measures from the end of the work that was sent before to the end of what is sent inside.
    """

    def __init__(self, device: str = "vulkan") -> None:
        target = resolve(device)
        if target.kind != "vulkan":
            raise ArgumentError(
                "K0530", f"target {device!r} has no clock of its own", help="time it with time.perf_counter"
            )
        from kdsl.backends import vulkan
        from kdsl.backends.vulkan.timing import Stopwatch

        self._watch = Stopwatch(vulkan.open_device(target.index))
        self._elapsed_ms: float | None = None

    def __enter__(self) -> DeviceTimer:
        self._watch.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watch.stop()

    @property
    def elapsed_ms(self) -> float:
        """Milliseconds on the device; 0.0 where it has no clock."""
        if self._elapsed_ms is None:
            self._elapsed_ms = self._watch.elapsed_ms()
            self._watch.end()
        return self._elapsed_ms
