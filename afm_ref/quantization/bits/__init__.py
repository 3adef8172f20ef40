"""How many bits each matrix gets: what few bits cost, how they are spent best, and what the
model then takes.
"""
