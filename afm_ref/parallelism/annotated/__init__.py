"""Strategies by annotation: say where arrays lie, and the partitioner communicates."""
