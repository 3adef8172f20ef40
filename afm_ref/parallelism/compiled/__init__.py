"""What is in a compiled program: its collectives, and programs for machines that are not
there.
"""
