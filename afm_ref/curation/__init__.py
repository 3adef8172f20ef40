"""From a messy crawl to training text: extraction, safety, near-duplicates, quality, benchmarks left out.

The order is that of TR24 section 3.1. A step takes a `corpora.Document` and gives another, or says why it is dropped.
"""
