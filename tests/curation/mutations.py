"""Faults in afm_ref/curation and in what it stands on; see tests/mutations.py."""

from tools.mutate import faults

MUTATIONS = faults(r'''
afm_ref/curation/recipe.py
  a clause without spaces is one word to the near-duplicates
    - text if self.is_english
    + text if True
    tests/curation/test_curate_command.py::test_near_duplicates_without_spaces
  a clause of half-width katakana is one word to the near-duplicates
    - (overlap.normal(text))
    + (text)
    tests/curation/test_curate_command.py::test_near_duplicates_without_spaces
  tags that a text had already count as masked
    -  - pii.count_tags(document.text)
    tests/curation/test_run.py::test_steps_in_turn_by_hand
afm_ref/data/overlap.py
  a soft hyphen ends a word
    - UNSEEN.sub("", text)
    + text
    tests/curation/test_near_duplicates.py::test_a_copy_in_another_form_of_unicode_has_the_same_shingles
  words are of code points
    - findall(normal(text))
    + findall(text)
    tests/data/test_pretraining_text.py::test_forms_of_unicode_are_the_same_words
afm_ref/curation/minhash.py
  near-duplicates are of code points
    -     text = overlap.normal(text)
    -
    tests/curation/test_near_duplicates.py::test_a_copy_in_another_form_of_unicode_has_the_same_shingles
  shingles forget where in the text they are
    -  * inverses[starts]
    tests/curation/test_near_duplicates.py::test_equal_runs_and_only_those_get_equal_hashes
  only the last block counts
    - np.minimum(least, block.min(axis=0), out=least)
    + least = block.min(axis=0)
    tests/curation/test_near_duplicates.py::test_signatures_are_datasketchs
afm_ref/curation/decontamination.py
  a run at the threshold is still rare
    - < self.threshold
    + <= self.threshold
    tests/curation/test_decontamination.py::test_decisions_equal_brute_force
  longer runs are looked for at all places, one word too late
    - words[at + n - 1]
    + words[at + n - 2]
    tests/curation/test_decontamination.py::test_collisions_equal_brute_force
afm_ref/disk/text_files.py
  half of a surrogate pair is text
    - json.dumps(value, ensure_ascii=False).encode()
    + pass
    tests/disk/test_formats.py::test_lines_end_at_line_feeds_alone
  lines end wherever str.splitlines ends them
    - read_text(file).split("\n")
    + read_text(file).splitlines()
    tests/disk/test_formats.py::test_lines_end_at_line_feeds_alone
  the marks of joined files are text
    - line = line.lstrip("\ufeff")
    + pass
    tests/disk/test_formats.py::test_marks_of_joined_files_are_no_text
afm_ref/data/corpora.py
  a form feed ends a line of code
    - re.split("\r\n?|\n", source)
    + source.splitlines()
    tests/data/test_pretraining_text.py::test_docstrings_are_found_behind_form_feeds
afm_ref/curation/near_duplicates.py
  rows and bands are exchanged
    - ** rows) ** bands
    + ** bands) ** rows
    tests/curation/test_near_duplicates.py::test_s_curve_equals_what_random_signatures_do
  a key does not know its band
    - np.arange(bands, dtype=np.uint64)
    + np.zeros(bands, dtype=np.uint64)
    tests/curation/test_near_duplicates.py::test_a_key_belongs_to_its_band
  two copies are none, three are
    - keys[1:][keys[1:] == keys[:-1]]
    + keys[2:][keys[2:] == keys[:-2]]
    tests/curation/test_near_duplicates.py::test_decisions_equal_brute_force
  of more keys than memory holds the first part is looked at
    - in range(parts):
    + in range(1):
    tests/curation/test_near_duplicates.py::test_decisions_equal_brute_force
afm_ref/curation/pages.py
  a benchmark loses a byte in silence
    - parse(raw, strict=True)
    + parse(raw)
    tests/curation/test_run.py::test_benchmarks_are_read_to_the_letter
  a stopped run's staged shards are curated again
    -     shards.check_finished(root)
    -
    tests/curation/test_run.py::test_a_stopped_run_is_neither_corpus_nor_source
  one bad byte makes a line Latin-1
    - , errors="replace")
    +  if raw.data.isascii() else "latin-1")
    tests/curation/test_files.py::test_a_bad_byte_in_a_line_is_one_character
  a file of lines is begun again
    - if position > after
    + if True
    tests/curation/test_files.py::test_it_goes_on_behind_any_place
  a disk that fails puts its file back to the first line
    - yield number, UNREADABLE
    + yield 0, UNREADABLE
    tests/curation/test_files.py::test_it_goes_on_behind_a_disk_that_fails
  a country's .rs makes a page Rust
    - if "://" not in name and is_code(name)
    + if is_code(name)
    tests/curation/test_files.py::test_files_make_a_line_code_and_addresses_do_not
  a third of a text may be undecodable
    - > MOST_UNDECODABLE
    + > 30 * MOST_UNDECODABLE
    tests/curation/test_files.py::test_one_character_in_a_hundred_may_be_undecodable
  Greek is mathematics
    - (?<![\u0370-\u03ff\u1f00-\u1fff])[πθλ](?![\u0370-\u03ff\u1f00-\u1fff])
    + [πθλ]
    tests/curation/test_files.py::test_kinds_by_hand
afm_ref/curation/run.py
  a run that goes on begins with the first page
    - = staged.reached()
    + = None, staged.reached()[1]
    tests/curation/test_run.py::test_killed_anywhere_it_goes_on_to_the_same_bytes
  a chunk counts as done before its signatures are there
    - which come last."""
    + which come last."""
    +         shards.write_lines(shards.path_of(self.folder, number), [header, *rows], 1)
    tests/curation/test_run.py::test_killed_anywhere_it_goes_on_to_the_same_bytes
  near-duplicates count among the documents that make a phrase common
    -  and not row.get("original")
    tests/curation/test_run.py::test_copies_make_no_phrase_common
  workers outlive their parent
    - (parent.join(), os._exit(1))
    + parent.join()
    tests/curation/test_run.py::test_workers_end_with_their_parent
  that the benchmarks are too short is seen late
    -         recipe.benchmark_runs()  #
    +         pass  #
    tests/curation/test_run.py::test_bad_folders_and_benchmarks_are_refused_before_anything_is_made
afm_ref/curation/report.py
  a document of exactly a power of two counts as a longer one
    - max(0, size - 1)
    + size
    tests/curation/test_run.py::test_lengths_are_counted_up_to_a_power_of_two
afm_ref/curation/shards.py
  half of a stopped run is read as a corpus
    -     check_finished(folder)
    -
    tests/curation/test_run.py::test_a_stopped_run_is_neither_corpus_nor_source
  a shard bears the time
    - , mtime=0)
    + )
    tests/curation/test_files.py::test_same_documents_same_bytes
afm_ref/curation/heuristics.py
  a page without spaces is one word to the rules
    - text = text if source == "code"
    + text = text if True
    tests/curation/test_heuristics.py::test_letters_are_words_where_words_have_no_spaces
  half-width katakana without spaces are one word to the rules
    - (overlap.normal(text))
    + (text)
    tests/curation/test_heuristics.py::test_letters_are_words_where_words_have_no_spaces
  any language is asked for English stop words
    - not (language == ANY and name in OF_ENGLISH) and
    tests/curation/test_heuristics.py::test_any_language_passes_what_is_asked_of_any
  line ends count as length
    - for line in text.splitlines()]
    + for line in text.splitlines(keepends=True)]
    tests/curation/test_heuristics.py::test_each_rule_has_two_sides
  overlapping repeated runs are counted twice
    - inside += i + n - max(i, end)
    + inside += n
    tests/curation/test_heuristics.py::test_repeated_runs_equal_brute_force
  English stop words are asked of code
    - "code": CODE}
    + "code": CODE | WORDS}
    tests/curation/test_heuristics.py::test_code_has_rules_of_its_own
afm_ref/curation/html.py
  one bad byte makes UTF-8 what a page wrongly declares
    - 2 * utf8.bad <= utf8.good
    + not utf8.bad
    tests/curation/test_html.py::test_encodings
  a page that says UTF-8 is UTF-8 whatever it holds
    - in reads if read.is_nearly_valid]
    + in reads]
    tests/curation/test_html.py::test_encodings
  what a page declares goes before valid UTF-8
    - <= utf8.good:
    + <= utf8.good and not DECLARED.search(raw):
    tests/curation/test_html.py::test_encodings
  escapes of ISO-2022 are UTF-8
    - (b"\x1b" in raw and raw.isascii())
    -         or _is_japanese(raw)
    + False
    tests/curation/test_html.py::test_encodings
  a bad byte makes the escapes of ISO-2022-JP text
    - max(
    -         FEW, len(raw) // 100
    -     )
    + 0
    tests/curation/test_html.py::test_encodings
  an emoji weighs no more than a letter
    - - len(good) if encoding == "utf-8"
    + - len(good) if False
    tests/curation/test_html.py::test_encodings
  a declaration in a comment counts
    - HIDDEN.sub(b"", raw[:META_BYTES])
    + raw[:META_BYTES]
    tests/curation/test_html.py::test_encodings
  one bad byte makes what is declared something else
    - self.bad <= max(FEW, self.good // 10)
    + not self.bad
    tests/curation/test_html.py::test_a_bad_byte_spoils_nothing_but_itself
  what is detected in a damaged whole goes before its pieces
    - likely.reverse()
    -
    + pass
    +
    tests/curation/test_html.py::test_a_bad_byte_spoils_nothing_but_itself
  markup votes for the encoding
    - in between_tags if not part.isascii()
    + in between_tags
    tests/curation/test_html.py::test_a_bad_byte_spoils_nothing_but_itself
  Korean is UTF-8
    - found := detect_encoding(part, html5_compatible=False), found
    + None, detect_encoding(part)
    tests/curation/test_html.py::test_a_bad_byte_spoils_nothing_but_itself
  each byte of a surrogate is an error
    - HALVES.sub(b"\xff", raw) if encoding == "utf-8" else raw
    + raw
    tests/curation/test_html.py::test_utf8_of_utf16_halves_is_one_error
  end tags of what is not open make a deep page flat
    - if opened[name]:
    + if depth:
    tests/curation/test_html.py::test_depth_by_hand
  precision and recall are swapped
    - max(1, ours.total()), shared / max(1, true.total())
    + max(1, true.total()), shared / max(1, ours.total())
    tests/curation/test_html.py::test_agreement_by_hand
afm_ref/curation/pii.py
  a telephone number takes a bracket that is not its own
    - |\d{1,4})){1,6}
    + |\d{1,4})\)?){1,6}
    tests/curation/test_pii.py::test_planted_data_is_found
  a label of a telephone number is a sum
    -  and not LABEL.search(line)
    tests/curation/test_pii.py::test_planted_data_is_found
  a host's name makes its address a version
    - (?!(?:[^\W_]+[-._])*(?:{_HOSTS})(?:v?\d+)?[-._/=<>~!])
    tests/curation/test_pii.py::test_planted_data_is_found
  any path ends in a version
    - (?<![\w./\\:@$%&?=-])
    tests/curation/test_pii.py::test_planted_data_is_found
  no-break spaces part a number
    - = SPACES | {
    + = {
    tests/curation/test_pii.py::test_planted_data_is_found
  hyphens other than ASCII's part a number
    - DASH.sub("-", text
    + (text
    tests/curation/test_pii.py::test_planted_data_is_found
  letters that stand beside an address hide it
    - OTHER_LETTER.sub(
    + (lambda _, found: found)(
    tests/curation/test_pii.py::test_planted_data_is_found
  only the longest stretch at each start is tested
    - if end > start else None
    + if False else None
    tests/curation/test_pii.py::test_planted_data_is_found
  the search goes on behind a stretch that failed
    - else start + 1
    + else start + 19
    tests/curation/test_pii.py::test_planted_data_is_found
  an address taken by one kind stays there for the next
    - "]" * len(piece)
    + "]" + piece[1:]
    tests/curation/test_pii.py::test_planted_data_is_found
  a term of a sum is a telephone number
    - match[0][1:].isdigit() and
    + False and
    tests/curation/test_pii.py::test_lookalikes_stay
  an object identifier is an address
    - |firmware|oids?)
    + |firmware)
    tests/curation/test_pii.py::test_lookalikes_stay
  every string of digits is a card
    -  and luhn(digits)
    tests/curation/test_pii.py::test_lookalikes_stay
  a card in a run of numbers needs no issuer
    - ISSUED.fullmatch(digits)
    + True
    tests/curation/test_pii.py::test_lookalikes_stay
  decimals in a run of numbers are telephone numbers
    - not PHONE_IN_RUN.fullmatch(match[0])
    + False
    tests/curation/test_pii.py::test_lookalikes_stay
  the tag of what is masked is a label to the next
    - TAG.sub(lambda tag: "]" * len(tag[0]), text)
    + text
    tests/curation/test_pii.py::test_masking_twice_is_masking_once
  what is left alone by a find is not looked for again
    - while len(found)
    + if len(found)
    tests/curation/test_pii.py::test_masking_twice_is_masking_once
  digits of other scripts are no digits to the check
    - str(int(c)) for c in piece
    + c for c in piece
    tests/curation/test_pii.py::test_other_forms_of_characters_are_what_they_stand_for
  full-width forms are not read
    - text.translate(HALF_WIDTH)
    + text
    tests/curation/test_pii.py::test_other_forms_of_characters_are_what_they_stand_for
  the Luhn check doubles from the left
    - for d in reversed(digits)]
    + for d in digits]
    tests/curation/test_pii.py::test_luhn_equals_the_steps_by_hand
  rows of fours are cards
    - and not (" " in match[0] and _in_row_of_fours(text, match))
    tests/curation/test_pii.py::test_rows_of_fours_are_seldom_cards
afm_ref/curation/quality.py
  the gradient forgets the weight decay
    -  + decay * w
    tests/curation/test_quality.py::test_gradient_is_that_of_finite_differences
  the hash of a pair of words does not know their order
    - * PAIR + words[1:]
    + * PAIR + words[1:] * PAIR
    tests/curation/test_quality.py::test_features_by_hand
  equal scores are kept one after the other
    - np.diff(scores[order]) != 0
    + [True] * (len(scores) - 1)
    tests/curation/test_quality.py::test_area_is_the_chance_of_the_right_order
experiments/crawl/planting.py
  an edit may put the same word back
    - while new == pieces[i]:
    + if new == pieces[i]:
    tests/crawl/test_wild.py::test_edits_replace_the_share_that_they_say
''')
