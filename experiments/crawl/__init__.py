"""A crawl that a program writes: real text in made pages, junk, copies and personal data planted."""
