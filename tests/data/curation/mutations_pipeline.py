"""Faults in the near-duplicates and the stream of afm_ref/data/curation; see tests/mutations.py."""

from tools.mutate import Mutation

SIGNATURES, BANDING, INDEX, PIPELINE, POOL, SOURCES, SHARDS, WORK, REPORT, STATE = (
    f"afm_ref/data/curation/{name}.py"
    for name in (
        "signatures", "banding", "index", "pipeline", "pool", "sources", "shards", "work", "report", "state"
    )
)  # fmt: skip
TESTS = "tests/data/curation/"

MUTATIONS = [
    Mutation(
        "a clause without spaces is one word to the near-duplicates",
        "afm_ref/data/curation/settings.py",
        "text if self.is_english else overlap.spaced(overlap.normal(text))",
        "text",
        TESTS + "test_curate_command.py::test_near_duplicates_without_spaces",
    ),
    Mutation(
        "a clause of half-width katakana is one word to the near-duplicates",
        "afm_ref/data/curation/settings.py",
        "overlap.spaced(overlap.normal(text))",
        "overlap.spaced(text)",
        TESTS + "test_curate_command.py::test_near_duplicates_without_spaces",
    ),
    Mutation(
        "a soft hyphen ends a word",
        "afm_ref/data/overlap.py",
        'UNSEEN.sub("", text)',
        "text",
        TESTS + "test_signatures.py::test_a_copy_in_another_form_of_unicode_has_the_same_shingles",
    ),
    Mutation(
        "near-duplicates are of code points",
        SIGNATURES,
        "    text = overlap.normal(text)\n",
        "",
        TESTS + "test_signatures.py::test_a_copy_in_another_form_of_unicode_has_the_same_shingles",
    ),
    Mutation(
        "benchmarks are of code points",
        "afm_ref/data/overlap.py",
        "WORD.findall(normal(text))",
        "WORD.findall(text)",
        TESTS + "test_decontamination.py::test_a_copy_in_another_form_of_unicode_collides",
    ),
    Mutation(
        "lines end wherever str.splitlines ends them",
        "afm_ref/text_files.py",
        'read_text(file).split("\\n")',
        "read_text(file).splitlines()",
        "tests/test_text_files.py::test_lines_end_at_line_feeds_alone",
    ),
    Mutation(
        "a form feed ends a line of code",
        "afm_ref/data/corpora.py",
        're.split("\\r\\n?|\\n", source)',
        "source.splitlines()",
        "tests/data/test_corpora.py::test_docstrings_are_found_behind_form_feeds",
    ),
    Mutation(
        "one bad byte makes a line Latin-1",
        SOURCES,
        'raw.data.decode("utf-8-sig", errors="replace")',
        'raw.data.decode("utf-8-sig" if raw.data.isascii() else "latin-1")',
        TESTS + "test_sources.py::test_a_bad_byte_in_a_line_is_one_character",
    ),
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
        "a worker is the first to see that the benchmarks are too short",
        PIPELINE,
        "    settings.benchmark_runs()  #",
        "    #",
        TESTS + "test_pipeline.py::test_benchmarks_that_are_too_short_are_refused_before_anything_is_made",
    ),
    Mutation(
        "a disk that fails puts its file back to the first line",
        SOURCES,
        "        except OSError:\n            yield Position(name, number),",
        "        except OSError:\n            yield Position(name),",
        TESTS + "test_sources.py::test_it_goes_on_behind_a_disk_that_fails",
    ),
    Mutation(
        "a country's .rs makes a page Rust",
        SOURCES,
        'if "://" not in name and kinds.language(name)',
        "if kinds.language(name)",
        TESTS + "test_sources.py::test_files_make_a_line_code_and_addresses_do_not",
    ),
    Mutation(
        "a third of a text may be undecodable",
        SOURCES,
        "> MOST_UNDECODABLE * len(text)",
        "> 30 * MOST_UNDECODABLE * len(text)",
        TESTS + "test_sources.py::test_one_character_in_a_hundred_may_be_undecodable",
    ),
    Mutation(
        "a stopped run's staged shards are curated again",
        SOURCES,
        "    shards.check_finished(root)\n",
        "",
        TESTS + "test_pipeline.py::test_a_stopped_run_is_neither_corpus_nor_source",
    ),
    Mutation(
        "half of a stopped run is read as a corpus",
        SHARDS,
        "    check_finished(folder)\n",
        "",
        TESTS + "test_shards.py::test_an_unfinished_run_is_refused",
    ),
    Mutation(
        "tags that a text had already count as masked",
        WORK,
        "pii.count_tags(done.text) - pii.count_tags(document.text)",
        "pii.count_tags(done.text)",
        TESTS + "test_pipeline.py::test_only_what_is_masked_is_counted_as_personal_data",
    ),
    Mutation(
        "a document of exactly a power of two counts as a longer one",
        REPORT,
        "max(0, size - 1).bit_length()",
        "size.bit_length()",
        TESTS + "test_pipeline.py::test_lengths_are_counted_up_to_a_power_of_two",
    ),
    Mutation(
        "a full disk is another run's fault",
        STATE,
        "            self.close()\n            _check_disk(path, error)\n",
        "            self.close()\n",
        TESTS + "test_pipeline.py::test_it_goes_on_after_a_full_disk",
    ),
    Mutation(
        "a shard bears the time",
        SHARDS,
        "fileobj=file, mtime=0)",
        "fileobj=file)",
        TESTS + "test_shards.py::test_same_documents_same_bytes",
    ),
]
