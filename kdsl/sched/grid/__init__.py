"""Launches on a GPU: the default binding, work-groups, the limits of devices."""
