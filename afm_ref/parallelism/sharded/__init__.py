"""Weights that say the communication themselves: FSDP, tensor, sequence and pipeline
parallelism.
"""
