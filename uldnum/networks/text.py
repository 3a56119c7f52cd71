"""Tokenizers of text encoders, read from the files that transformers writes, and run by the library tokenizers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import numpy as np

from uldnum._util import parsing
from uldnum._util.arguments import shown
from uldnum._util.extras import require
from uldnum._util.names import printable
from uldnum._util.typing import Array

__all__ = ["Tokenizer"]

# Largest size of a vocabulary, in bytes.
LARGEST = 2**26

# Largest number of tokens of a sequence. Files of transformers state 1e30 where the length is unknown.
LONGEST = 2**16

# Number of merges of CLIP's vocabulary. transformers ignores further lines of the file.
MERGES = 49152 - 256 - 2

# The parts of a lower-case text that CLIP encodes one by one.
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"

# Special tokens of CLIP's tokenizer, if the files of a folder do not name others.
SPECIAL = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>",
           "pad_token": "<|endoftext|>"}  # fmt: skip

# Properties of added tokens that the library knows.
PROPERTIES = ("single_word", "lstrip", "rstrip", "normalized", "special")


@dataclass(frozen=True)
class Tokenizer:
    """A tokenizer that returns sequences of a fixed length.

    Attributes
    ----------
    model : tokenizers.Tokenizer
        Tokenizer that truncates and pads.
    length : int
        Number of tokens of a sequence, including the special tokens at its ends.
    series : mapping
        Added tokens with several vectors: the first token of a series, and the text of the whole series.
    """

    model: Any
    length: int
    series: Mapping[str, str]

    @classmethod
    def read(cls, folder: Path, length: int | None = None) -> Tokenizer:
        """Read a folder with ``tokenizer.json``, or with ``vocab.json`` and ``merges.txt`` of CLIP.

        Parameters
        ----------
        folder : Path
            Folder of a tokenizer, as transformers writes it.
        length : int, optional
            Number of tokens of a sequence. Default: ``model_max_length`` of ``tokenizer_config.json``.

        Raises
        ------
        ValueError
            If a file is missing or broken; the message names it.
        MissingExtraError
            If the extra ``text`` is not installed.
        """
        library, settings = require("tokenizers", "text"), settings_of(folder)
        size = settings.get("model_max_length") if length is None else length
        if not (isinstance(size, int) and 3 <= size <= LONGEST):
            path = shown(str(folder / "tokenizer_config.json"))
            raise ValueError(
                f"network: {path}: model_max_length must be an integer from 3 to {LONGEST}, got {shown(size)}"
            )
        special = {key: text_of(settings.get(key) or token) for key, token in SPECIAL.items()}
        build = builder(folder, settings, special, library)
        try:
            model, padding = build(), special["pad_token"]
            model.enable_truncation(size)
            model.enable_padding(length=size, pad_id=number_of(model, padding), pad_token=padding)
        except Exception as error:  # the library raises Exception itself
            fault = printable(str(error), 300)
            raise ValueError(f"network: {shown(str(folder))} cannot be read as a tokenizer: {fault}") from None
        return cls(model, size, series_of({token.content for token in model.get_added_tokens_decoder().values()}))

    def __call__(self, text: str) -> Array:
        """Return the numbers of the tokens of a text, shape (1, length), and warn if its end is cut off."""
        for first, whole in self.series.items():
            text = text.replace(first, whole)
        encoding = self.model.encode(text)
        if encoding.overflowing:
            rest = text[max(end for _, end in encoding.offsets) :].strip()
            warnings.warn(
                f"prompt: a text encoder reads {self.length} tokens, and the end of the text is cut off: {shown(rest)}",
                stacklevel=2,
            )
        return np.array([encoding.ids])


def builder(folder: Path, settings: Mapping[str, Any], special: Mapping[str, str], library: Any) -> Callable[[], Any]:
    """Read the files of a tokenizer, and return a function that builds it."""
    if (folder / "tokenizer.json").is_file():
        return partial(library.Tokenizer.from_str, parsing.read_text("network", folder / "tokenizer.json", LARGEST))
    if not (folder / "vocab.json").is_file():
        raise ValueError(
            f"prompt: {shown(str(folder))} must have tokenizer.json, or vocab.json and merges.txt; with transformers, "
            "AutoTokenizer.from_pretrained(folder).save_pretrained(folder) writes tokenizer.json"
        )
    vocabulary = parsing.read_json("network", folder / "vocab.json", LARGEST)
    lines = parsing.read_text("network", folder / "merges.txt", LARGEST).strip().split("\n")
    return partial(clip_tokenizer, vocabulary, lines, settings["added_tokens_decoder"], special, library)


def settings_of(folder: Path) -> dict[str, Any]:
    """Return the settings of a tokenizer.

    If they do not list the added tokens, as in folders of early versions of transformers, ``special_tokens_map.json``
    takes precedence, and ``added_tokens.json`` holds the numbers of the added tokens.
    """
    settings = parsing.read_json("network", folder / "tokenizer_config.json", optional=True)
    if "added_tokens_decoder" in settings:
        return settings
    added = parsing.read_json("network", folder / "added_tokens.json", optional=True)
    listed = {number: {"content": token} for token, number in added.items()}
    special = parsing.read_json("network", folder / "special_tokens_map.json", optional=True)
    return settings | special | {"added_tokens_decoder": listed}


def text_of(token: Any) -> str:
    """Return the text of a token, which files hold as a string or as an object with further properties."""
    return str(token.get("content") if isinstance(token, Mapping) else token)


def number_of(model: Any, token: str) -> int:
    """Return the number of a token, or raise an error if the vocabulary does not have it."""
    number = model.token_to_id(token)
    if number is None:
        raise ValueError(f"the vocabulary must have the special token {shown(token)}")
    return int(number)


def series_of(names: set[str]) -> dict[str, str]:
    """Return the first tokens of all series ``name``, ``name_1``, ``name_2``, ... and the texts of these series.

    A textual inversion with several vectors has such a series, of which a prompt contains the first token.
    """

    def following(name: str) -> list[str]:
        return list(takewhile(names.__contains__, (f"{name}_{i}" for i in count(1))))

    return {name: " ".join([name, *rest]) for name in sorted(names) if (rest := following(name))}


def clip_tokenizer(
    vocabulary: dict[str, int], lines: list[str], listed: Mapping[Any, Any], special: Mapping[str, str], library: Any
) -> Any:
    """Return CLIP's tokenizer, which has the tokens of CLIPTokenizerFast of transformers.

    A text is lower-cased and split into words. The bytes of a word are merged in the order of the merges, where the end
    of the word is part of its last byte.

    Parameters
    ----------
    vocabulary : dict
        Numbers of the tokens.
    lines : list of str
        Lines of the file of merges, of which the first states a version.
    listed : mapping
        Added tokens: their properties by their numbers.
    special : mapping
        Special tokens by purpose.
    library : module
        The library tokenizers.
    """
    merges = [tuple(line.split()) for line in lines[1 : 1 + MERGES]]
    unknown = special["unk_token"]
    model = library.Tokenizer(
        library.models.BPE(vocab=vocabulary, merges=merges, end_of_word_suffix="</w>", unk_token=unknown)
    )
    normalizers, splits = library.normalizers, library.pre_tokenizers
    space = normalizers.Replace(library.Regex(r"\s+"), " ")
    model.normalizer = normalizers.Sequence([normalizers.NFC(), space, normalizers.Lowercase()])
    words = splits.Split(library.Regex(WORDS), behavior="removed", invert=True)
    model.pre_tokenizer = splits.Sequence([words, splits.ByteLevel(add_prefix_space=False, use_regex=False)])
    add_tokens(model, listed, special, library)
    last, first = ((special[key], number_of(model, special[key])) for key in ("eos_token", "bos_token"))
    model.post_processor = library.processors.BertProcessing(last, first)
    return model


def add_tokens(model: Any, listed: Mapping[Any, Any], special: Mapping[str, str], library: Any) -> None:
    """Add the listed tokens, then the other special tokens. They are found in a text before it is split into words."""
    for number, token in sorted(listed.items(), key=lambda item: int(item[0])):
        name = text_of(token)
        properties = {"special": name in special.values()} | {key: token[key] for key in PROPERTIES if key in token}
        model.add_tokens([library.AddedToken(name, **properties)])
        if model.token_to_id(name) != int(number):
            raise ValueError(f"the token {shown(name)} must have the number {number}, the next one")
    names = [text_of(token) for token in listed.values()]
    for name in special.values():
        number_of(model, name)  # the vocabulary must have it
        if name not in names:
            model.add_tokens([library.AddedToken(name, special=True)])
