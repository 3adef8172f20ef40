"""Commands of `python -m afm_ref`, a module each: add_arguments(parser), run(args)."""
