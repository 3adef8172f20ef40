"""Faults in the steps of curation that look at one document; see tests/mutations.py."""

from tools.mutate import Mutation

HTML, HEURISTICS, QUALITY, PII, DECONTAMINATION, PLANTING = (
    f"afm_ref/data/curation/{name}.py"
    for name in ("html", "heuristics", "quality", "pii", "decontamination", "planting")
)
TESTS = "tests/data/curation/"

MUTATIONS = [
    Mutation(
        "what a page declares goes before valid UTF-8",
        HTML,
        'if b"\\0" not in raw and b"\\x1b" not in raw and',
        "if not META_CHARSET.search(raw) and",
        TESTS + "test_html.py::test_valid_utf8_goes_before_a_wrong_declaration",
    ),
    Mutation(
        "the escapes of ISO-2022 pass as UTF-8",
        HTML,
        'b"\\x1b" not in raw and',
        "",
        TESTS + "test_html.py::test_escapes_are_no_utf8",
    ),
    Mutation(
        "end tags of what is not open make a deep page flat",
        HTML,
        "            if opened[name]:\n",
        "            if depth:\n",
        TESTS + "test_html.py::test_depth_by_hand",
    ),
    Mutation(
        "line ends count as length",
        HEURISTICS,
        "lengths = [len(line) for line in text.splitlines()]",
        "lengths = [len(line) for line in text.splitlines(keepends=True)]",
        TESTS + "test_heuristics.py::test_each_rule_of_code_has_two_sides",
    ),
    Mutation(
        "precision and recall are swapped",
        HTML,
        "return shared / max(1, ours.total()), shared / max(1, true.total())",
        "return shared / max(1, true.total()), shared / max(1, ours.total())",
        TESTS + "test_html.py::test_agreement_by_hand",
    ),
    Mutation(
        "overlapping repeated runs are counted twice",
        HEURISTICS,
        "inside += i + n - max(i, end)",
        "inside += n",
        TESTS + "test_heuristics.py::test_repeated_runs_equal_brute_force",
    ),
    Mutation(
        "English stop words are asked of code",
        HEURISTICS,
        '"code": CODE}',
        '"code": CODE | WORDS}',
        TESTS + "test_heuristics.py::test_code_has_rules_of_its_own",
    ),
    Mutation(
        "the gradient forgets the weight decay",
        QUALITY,
        "minlength=len(w)) + decay * w",
        "minlength=len(w))",
        TESTS + "test_quality.py::test_gradient_is_that_of_finite_differences",
    ),
    Mutation(
        "the hash of a pair of words does not know their order",
        QUALITY,
        "pairs = words[:-1] * PAIR + words[1:]",
        "pairs = words[:-1] * PAIR + words[1:] * PAIR",
        TESTS + "test_quality.py::test_features_by_hand",
    ),
    Mutation(
        "equal scores are kept one after the other",
        QUALITY,
        "last = np.append(np.diff(scores[order]) != 0, True)",
        "last = np.ones(len(scores), bool)",
        TESTS + "test_quality.py::test_area_is_the_chance_of_the_right_order",
    ),
    Mutation(
        "the Luhn check doubles from the left",
        PII,
        "values = [int(d) for d in reversed(digits)]",
        "values = [int(d) for d in digits]",
        TESTS + "test_pii.py::test_luhn_equals_the_steps_by_hand",
    ),
    Mutation(
        "every string of digits is a card",
        PII,
        "return luhn(_digits(match[0]))",
        "return True",
        TESTS + "test_pii.py::test_lookalikes_stay",
    ),
    Mutation(
        "a card in a run of numbers needs no issuer",
        PII,
        "ISSUED.fullmatch(_digits(piece))",
        "True",
        TESTS + "test_pii.py::test_lookalikes_stay",
    ),
    Mutation(
        "rows of fours are cards",
        PII,
        'and not (" " in match[0] and _in_row_of_fours(text, match))',
        "",
        TESTS + "test_pii.py::test_rows_of_fours_are_seldom_cards",
    ),
    Mutation(
        "decimals in a run of numbers are telephone numbers",
        PII,
        "not PHONE_IN_RUN.fullmatch(match[0])",
        "False",
        TESTS + "test_pii.py::test_lookalikes_stay",
    ),
    Mutation(
        "only the longest stretch at each start is tested",
        PII,
        "match = pattern.match(text, start, end) if end > start else None",
        "match = None",
        TESTS + "test_pii.py::test_planted_data_is_found",
    ),
    Mutation(
        "the search goes on behind a stretch that failed",
        PII,
        "else start + 1",
        "else start + 19",
        TESTS + "test_pii.py::test_planted_data_is_found",
    ),
    Mutation(
        "an address taken by one kind stays there for the next",
        PII,
        '"]" * (end - start)',
        '"]" + text[start + 1 : end]',
        TESTS + "test_pii.py::test_planted_data_is_found",
    ),
    Mutation(
        "what is left alone by a find is not looked for again",
        PII,
        "while len(found) > before:",
        "if len(found) > before:",
        TESTS + "test_pii.py::test_masking_twice_is_masking_once",
    ),
    Mutation(
        "digits of other scripts are no digits to the check",
        PII,
        "str(int(c)) for c in piece",
        "c for c in piece",
        TESTS + "test_pii.py::test_digits_of_other_scripts_are_digits",
    ),
    Mutation(
        "a run at the threshold is still rare",
        DECONTAMINATION,
        "self.counts.get(hit, 0) < self.threshold",
        "self.counts.get(hit, 0) <= self.threshold",
        TESTS + "test_decontamination.py::test_decisions_equal_brute_force",
    ),
    Mutation(
        "longer runs are looked for at all places, one word too late",
        DECONTAMINATION,
        "state = _extend(state, words[at + n - 1])",
        "state = _extend(state, words[at + n - 2])",
        TESTS + "test_decontamination.py::test_collisions_equal_brute_force",
    ),
    Mutation(
        "an edit may put the same word back",
        PLANTING,
        "while new == pieces[i]:",
        "if new == pieces[i]:",
        TESTS + "test_wild.py::test_edits_replace_the_share_that_they_say",
    ),
]
