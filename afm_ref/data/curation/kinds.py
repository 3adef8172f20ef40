"""STUB (helper A1). kind_of(file name, text) -> "web" | "text" | "code" | "maths"."""


def kind_of(name: str, text: str = "") -> str:
    raise NotImplementedError
