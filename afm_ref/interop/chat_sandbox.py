"""The process in which a chat template runs: strangers' code, hence jinja2's immutable
sandbox, and limits.

`chat_template` starts this file as a script of its own. It reads a JSON object {"template",
"variables", "characters", "cpu_s", "memory_bytes"} and writes {"text"} or {"error"}. It
imports nothing of this package, which would need more memory than a template gets.
"""

import contextlib
import datetime
import json
import sys

from jinja2 import TemplateError, TemplateSyntaxError, ext, nodes, sandbox, utils


def environment() -> sandbox.ImmutableSandboxedEnvironment:
    """Return jinja2 with what chat templates may use: loop controls, generation blocks,
    five functions.

    Source: transformers' apply_chat_template for the names, and for what they do
        [standard].
    Test: tests/oracles/test_chat_template.py::test_text_and_ids_equal_transformers
    """
    found = sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationBlock, ext.loopcontrols]
    )
    found.filters["tojson"] = _to_json
    found.globals |= {
        "raise_exception": _raise,
        "strftime_now": _now,
        "dict": _Dict(),
        "namespace": _Namespace,
    }
    return found


class GenerationBlock(ext.Extension):
    """{% generation %} ... {% endgeneration %} marks what an assistant wrote; the text is
    that of its body.
    """

    tags = frozenset(["generation"])

    def parse(self, parser):
        """Return the body in a scope of its own."""
        line = next(parser.stream).lineno
        return nodes.Scope(
            parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line
        )


def _to_json(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    """Return JSON as it is: jinja2's own filter escapes it for HTML."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise(message):
    raise TemplateError(message)


def _now(form):
    return datetime.datetime.now().strftime(form)


class _Dict:
    """dict(...) and dict.fromkeys(...), without the class and what hangs on it."""

    def __call__(self, *args, **fields):
        return dict(*args, **fields)

    def fromkeys(self, *args):
        return dict.fromkeys(*args)


class _Namespace(utils.Namespace):
    """jinja2's namespace without names that begin with an underscore."""

    def __init__(*args, **fields):
        self, *rest = args  # so that a field may be called self
        for name in dict(*rest, **fields):
            _public(name)
        utils.Namespace.__init__(self, *rest, **fields)

    def __setitem__(self, name, value):
        _public(name)
        super().__setitem__(name, value)


def _public(name):
    if str(name).startswith("_"):
        raise sandbox.SecurityError(f"a namespace may not hold {name!r}")


def limit(cpu_s: int, memory_bytes: int) -> None:
    """Let this process use so much time and memory and write no files; where a system has
    no such limit, go on.
    """
    try:
        import resource
    except ImportError:  # Windows
        return
    limits = {"CPU": cpu_s, "AS": memory_bytes, "FSIZE": 0, "CORE": 0}
    for name, value in limits.items():
        # macOS knows the limit of memory, and refuses to set it
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))


def render(template: str, variables: dict, characters: int) -> str:
    """Return the template's text; ValueError if it is longer than so many characters."""
    pieces = []
    length = 0
    for piece in environment().from_string(template).generate(variables):
        pieces.append(piece)
        length += len(piece)
        if length > characters:
            raise ValueError(f"writes more than {characters:,} characters")
    return "".join(pieces)


def main() -> None:
    """Answer the request on stdin."""
    request = json.load(sys.stdin)
    limit(request["cpu_s"], request["memory_bytes"])
    try:
        answer = {
            "text": render(request["template"], request["variables"], request["characters"])
        }
    except TemplateSyntaxError as error:
        answer = {"error": f"line {error.lineno}: {error}"}
    except sandbox.SecurityError as error:
        answer = {"error": f"does what the sandbox forbids: {error}"}
    except MemoryError:
        answer = {"error": f"needs more than {request['memory_bytes'] >> 20} MiB of memory"}
    except RecursionError:
        answer = {"error": "calls itself without end"}
    except Exception as error:  # whatever a template does wrong, in Python's words
        answer = {
            "error": str(error)
            if isinstance(error, (TemplateError, ValueError))
            else repr(error)
        }
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
