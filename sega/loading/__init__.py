"""From weights on disk to a pipeline on a device."""
