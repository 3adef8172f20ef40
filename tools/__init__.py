"""Commands for those who work on afm_ref; none of them is installed with it."""
