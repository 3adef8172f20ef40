"""Faults in the near-duplicates and the stream of afm_ref/data/curation; see tests/mutations.py."""

from tools.mutate import Mutation

SIGNATURES, BANDING, INDEX, PIPELINE, POOL, SOURCES, SHARDS = (
    f"afm_ref/data/curation/{name}.py"
    for name in ("signatures", "banding", "index", "pipeline", "pool", "sources", "shards")
)
TESTS = "tests/data/curation/"

MUTATIONS = [
    Mutation(
        "shingles forget where in the text they are",
        SIGNATURES,
        "(sums[ends] - sums[starts]) * inverses[starts]",
        "(sums[ends] - sums[starts])",
        TESTS + "test_signatures.py::test_equal_runs_and_only_those_get_equal_hashes",
    ),
    Mutation(
        "only the last block of shingles counts",
        SIGNATURES,
        "np.minimum(least, block.min(axis=0), out=least)",
        "least = block.min(axis=0)",
        TESTS + "test_signatures.py::test_signatures_are_datasketchs",
    ),
    Mutation(
        "rows and bands are exchanged",
        BANDING,
        "(1 - np.asarray(s, np.float64) ** rows) ** bands",
        "(1 - np.asarray(s, np.float64) ** bands) ** rows",
        TESTS + "test_signatures.py::test_s_curve_equals_what_random_signatures_do",
    ),
    Mutation(
        "a key does not know its band",
        BANDING,
        "np.arange(bands, dtype=np.uint64)",
        "np.zeros(bands, dtype=np.uint64)",
        TESTS + "test_index.py::test_a_key_belongs_to_its_band",
    ),
    Mutation(
        "documents of one chunk do not see each other",
        INDEX,
        "(old_of + here.get(key, []))[:OWNERS]",
        "old_of[:OWNERS]",
        TESTS + "test_index.py::test_candidates_are_those_of_datasketch",
    ),
    Mutation(
        "what is on disk is not asked",
        INDEX,
        "        if not self.spilled or not len(keys):\n",
        "        if True:\n",
        TESTS + "test_index.py::test_the_bound_changes_nothing_but_where_it_lies",
    ),
    Mutation(
        "a resumed run forgets the entries that were in memory",
        INDEX,
        "for start in range(self.spilled, self.documents, ROWS):",
        "for start in range(self.documents, self.documents, ROWS):",
        TESTS + "test_index.py::test_it_goes_on_from_what_was_committed",
    ),
    Mutation(
        "a chunk is committed before its shard is there",
        PIPELINE,
        "        staged = self.out / STAGED\n",
        "        staged = self.out / STAGED\n        self.state.database.commit()\n",
        TESTS + "test_pipeline.py::test_killed_anywhere_it_goes_on_to_the_same_bytes",
    ),
    Mutation(
        "near-duplicates count among the documents that make a phrase common",
        PIPELINE,
        "            if outcome.document is not None and original is None:\n",
        "            hits += outcome.hits\n            if outcome.document is not None and original is None:\n",
        TESTS + "test_pipeline.py::test_copies_make_no_phrase_common",
    ),
    Mutation(
        "workers outlive their parent",
        POOL,
        "(parent.join(), os._exit(1))",
        "parent.join()",
        TESTS + "test_pipeline.py::test_workers_end_with_their_parent",
    ),
    Mutation(
        "a file of lines is begun again",
        SOURCES,
        "first = after.line + 1",
        "first = 0",
        TESTS + "test_sources.py::test_it_goes_on_behind_any_place",
    ),
    Mutation(
        "a shard bears the time",
        SHARDS,
        "fileobj=file, mtime=0)",
        "fileobj=file)",
        TESTS + "test_shards.py::test_same_documents_same_bytes",
    ),
]
