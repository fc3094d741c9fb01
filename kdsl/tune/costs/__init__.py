"""The analytical cost model: seconds of a call from footprints, ports and the processor's caches."""
