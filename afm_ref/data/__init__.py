"""The data room: tokenizer, corpora, generated tasks, packing into rows, and the baselines
to beat.
"""
