"""Parallelism: strategies on real and fake devices, a simulator, and what they cost."""
