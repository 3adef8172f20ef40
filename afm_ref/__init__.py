"""afm_ref: Apple's foundation models, executable. A reference implementation in NumPy and
JAX.
"""

__version__ = "0.1.0"
