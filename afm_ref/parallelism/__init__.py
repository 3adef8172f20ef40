"""Parallelism: strategies on real and fake devices, a simulator, and the arithmetic of both."""
