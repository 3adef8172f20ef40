"""Chat templates against transformers' apply_chat_template: the text, and its ids."""

import json
from functools import partial

import pytest

from afm_ref.interop import chat_template, hugging_face
from tests.interop.models import SMALL
from tests.interop.tokenizer_files import byte_level_json, sentencepiece_json

# Written for these tests; each uses another part of what templates may use.
TEMPLATES = {
    "turns": """
{%- for message in messages %}
    {{- '<|begin|>' + message['role'] + '\\n' + message.content | trim + '<|end|>\\n' }}
{%- endfor %}
{% if add_generation_prompt %}
    {{- '<|begin|>assistant\\n' }}
{% endif %}
""",
    "special tokens": "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }} {{ eos_token }}{% endfor %}"
    "{{ unk_token }}{{ pad_token is defined }}{{ cls_token }}",
    "white space": "  {% if true %}\n  a\n  {% endif %}\n\n\t{# nothing #}\n  {{ messages[0].content }}\n\n",
    "loop controls": "{% for i in range(9) %}{% if i == 2 %}{% continue %}{% elif i == 5 %}{% break %}{% endif %}"
    "{{ i }}{% endfor %}",
    "generation": "{% set x = 1 %}{% for m in messages %}{% generation %}{% set x = 2 %}{{ m.content }}{{ x }}"
    "{% endgeneration %}{{ x }}{% endfor %}",
    "namespace": "{% set ns = namespace(n=0, self='s') %}{% for m in messages %}"
    "{% set ns.n = ns.n + m.content|length %}"
    "{% endfor %}{{ ns.n }}{{ ns.self }}{{ ns.none is defined }}",
    "json": "{{ messages | tojson }}{{ {'b': '<&>\\u00e9', 'a': [1, none, true]} | tojson(indent=2) }}"
    "{{ {'b': 1, 'a': 2} | tojson(sort_keys=true, separators=(',', ':')) }}{{ '\\u00e9' | tojson(ensure_ascii=true) }}",
    "dict": "{{ dict(a=1, b=2) }}{{ dict.fromkeys(['x'], 3) }}{{ dict([('k', 1)]) }}{% for k, v in {'a': 1}.items() %}"
    "{{ k }}{{ v }}{% endfor %}",
    "absent": "{{ tools is none }}{{ documents is none }}{{ tools is defined }}{{ enable_thinking is defined }}"
    "{{ whatever }}|{{ messages[0].missing }}",
    "macros": "{% macro turn(role, text='-') %}{{ role | upper }}: {{ text }}{{ caller() if caller }}{% endmacro %}"
    "{{ turn('user') }}{% call turn('tool', 'x') %}!{% endcall %}{{ messages | map(attribute='role') | join(',') }}",
    "strings": "{{ messages[0].content.split('a') }}{{ '%s-%d' % ('a', 3) }}{{ '{:>5}|{}'.format('x', 2) }}"
    "{{ messages[0]['content'][::-1] }}{{ 'a' ~ 1 ~ 'b' }}{{ 7 // 2 }}{{ 2 ** 5 }}",
    "date": "{{ strftime_now('%Y') }}",
    "line ends": "a\r\n{% if add_generation_prompt %}\r\nb\r\n{% endif %}\r\nc\r\n",
}
PROMPTS = ["Hello, a cat", "  two\nlines <|end|> \u00e9\U0001f600 ", ""]


def write(folder, place, template, settings):
    """Write a template into a folder, in one of the places where they stand."""
    if place == "jinja":
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8", newline="")
    named = [{"name": "tool_use", "template": "not this one"}, {"name": "default", "template": template}]
    said = {"jinja": "not this one", "text": template, "list": named}[place]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": said}))


def both(transformers, folder, prompt="a", **settings):
    """Return (our text of a chat, its text and ids as transformers has them, transformers' tokenizer)."""
    theirs, messages = transformers.AutoTokenizer.from_pretrained(folder), [{"role": "user", "content": prompt}]
    apply = partial(theirs.apply_chat_template, messages, **{"add_generation_prompt": True} | settings)
    ours = chat_template.render(folder, messages, **settings)
    return ours, apply(tokenize=False), apply(return_dict=False), theirs


def folder_of(folder, make):
    """Write a tokenizer and a config.json into a folder; return what tokenizer_config.json says besides."""
    (folder / "tokenizer.json").write_text(make(), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": SMALL.vocab_size}))
    begin, end = ("<|begin|>", "<|end|>") if make is byte_level_json else ("<s>", "</s>")
    added = {"__type": "AddedToken", "content": begin, "lstrip": False, "normalized": False, "rstrip": False,
             "single_word": False, "special": True}  # fmt: skip
    return {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": added, "eos_token": end, "pad_token": None}


@pytest.mark.parametrize("place", ["jinja", "text", "list"])
@pytest.mark.parametrize("make", [byte_level_json, sentencepiece_json])
def test_text_and_ids_equal_transformers(transformers, tmp_path, place, make):
    settings = folder_of(tmp_path, make)
    tokenizer = hugging_face.load_tokenizer(tmp_path)
    for name, template in TEMPLATES.items():
        write(tmp_path, place, template, settings)
        for prompt in PROMPTS if name in ("turns", "json") else PROMPTS[:1]:
            ours, text, ids, _ = both(transformers, tmp_path, prompt)
            assert (ours, tokenizer.encode(ours, markers=True).tolist()) == (text, ids), name
    closed, text, *_ = both(transformers, tmp_path, add_generation_prompt=False)
    assert closed == text


def test_tokens_of_an_older_folder_are_those_of_special_tokens_map(transformers, tmp_path):
    settings = folder_of(tmp_path, sentencepiece_json) | {"chat_template": TEMPLATES["special tokens"]}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings | {"bos_token": "<unk>"}))
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"bos_token": {"content": "<s>", "lstrip": False,
        "normalized": False, "rstrip": False, "single_word": False}, "unk_token": "<unk>"}))  # fmt: skip
    ours, text, *_ = both(transformers, tmp_path)
    assert ours == text and text.startswith("<s>[user]") and "<unk>" in text


SUSPICIOUS = [
    "{{ ''.__class__.__mro__ }}", "{{ messages.append(1) }}", "{{ messages[0].update(a=1) }}",
    "{{ raise_exception('no') }}", "{{ cycler.__init__.__globals__ }}", "{{ (''|attr('__class__')).x }}",
    "{{ namespace(__class__=1) }}", "{{ 1 / 0 }}", "{% set ns = namespace() %}{% set ns._x = 1 %}",
    "{% include 'x' %}", "{% for i in range(999999) %}{% endfor %}", "{{ dict.mro() }}",
    "{{ dict.__subclasses__() }}", "{{ missing.attribute }}", "{% if %}", "{{ 'a' | nothing }}", "{% generation %}",
    "{{ '{0.__class__}'.format(1) }}", "{{ '{0.__class__.x}'.format(1) }}", "{{ strftime_now.__globals__ }}",
    "{{ strftime_now.__globals__['json'] }}", "{{ self.__init__ }}", "{{ namespace.__init__ }}",
    "{{ [''] | map(attribute='__class__') | list }}", "{{ messages | tojson(default=cycler) }}", "{{ lipsum.x.y }}",
]  # fmt: skip


@pytest.mark.parametrize("template", SUSPICIOUS)
def test_what_transformers_refuses_is_refused(transformers, tmp_path, template):
    """Or stays without effect, as there."""
    settings = folder_of(tmp_path, sentencepiece_json) | {"chat_template": template}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    messages = [{"role": "user", "content": "a"}]
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    try:
        text = theirs.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    except Exception:  # of many kinds
        with pytest.raises(ValueError, match=r"tokenizer_config\.json: the chat template"):
            chat_template.render(tmp_path, messages)
    else:
        assert chat_template.render(tmp_path, messages) == text


LLAMA = "{% for m in messages %}{{ bos_token }} [INST] {{ m.content }} [/INST]{{ eos_token }}{{ m.role }}{% endfor %}"


@pytest.mark.parametrize("settings", [{}, {"legacy": True}, {"legacy": False}, {"add_prefix_space": False}])
@pytest.mark.parametrize("kind", ["LlamaTokenizer", "LlamaTokenizerFast", "PreTrainedTokenizerFast", None])
@pytest.mark.parametrize("make", [byte_level_json, sentencepiece_json])
def test_the_class_that_a_folder_names_says_where_spaces_are_put(transformers, tmp_path, make, kind, settings):
    """transformers rebuilds a LlamaTokenizer; its chats have other ids than tokenizer.json alone would give."""
    folder_of(tmp_path, make)
    named = {} if kind is None else {"tokenizer_class": kind}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(named | settings | {"chat_template": LLAMA}))
    ours = hugging_face.load_tokenizer(tmp_path)
    mine, text, ids, theirs = both(transformers, tmp_path, " the cat")
    assert (mine, ours.encode(mine, markers=True).tolist()) == (text, ids)
    for prompt in ("the cat", " the", "  the cat ", "the</s>\ncat<s> on", ""):
        ids = theirs(prompt).input_ids
        assert ours.prompt_ids(prompt).tolist() == ids
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize("settings", [
    {}, {"eos_token": "<|end|>"}, {"eos_token": "<new>"}, {"eos_token": {"content": "<|end|>"}},
    {"extra_special_tokens": ["<|end|>"]}, {"additional_special_tokens": ["<|end|>"]}, {"image_token": "<|end|>"},
    {"extra_special_tokens": {"end_of_turn_token": "<|end|>"}},
    {"added_tokens_decoder": {"259": {"content": "<|end|>", "special": True}}},
])  # fmt: skip
@pytest.mark.parametrize("added", ["as plain", "not at all"])
def test_what_tokenizer_config_names_as_special_is_special(transformers, tmp_path, added, settings):
    folder_of(tmp_path, byte_level_json)
    spec = json.loads(byte_level_json())
    for token in spec["added_tokens"]:
        token["special"] = False
    if added == "not at all":
        spec["model"]["vocab"] |= {token["content"]: token["id"] for token in spec.pop("added_tokens")}
        spec["added_tokens"] = []
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast"} | settings
    if isinstance(settings.get("eos_token"), dict):  # of special_tokens_map.json
        (tmp_path / "special_tokens_map.json").write_text(json.dumps({"eos_token": settings.pop("eos_token")}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    theirs, ours = transformers.AutoTokenizer.from_pretrained(tmp_path), hugging_face.load_tokenizer(tmp_path)
    ids = theirs("a<|end|>b").input_ids
    assert ours.prompt_ids("a<|end|>b").tolist() == ids
    assert ours.decode([97, 259, 98]) == theirs.decode([97, 259, 98], skip_special_tokens=True)
