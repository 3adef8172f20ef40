"""The same by annotation: say where arrays lie, and the partitioner finds the
communication.
"""
