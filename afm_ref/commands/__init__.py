"""The commands of `python -m afm_ref`, a module each: add_arguments(parser) and run(args)."""
