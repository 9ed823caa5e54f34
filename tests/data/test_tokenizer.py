import gc
import json
import re

import numpy as np
import pytest
import tokenizers

from data import tokenizer
from data.features import PADDING_TOKEN
from data.tokenizer import Tokenizer
from plumbline import UserError
from tests.conftest import POEM

LINES = POEM.splitlines()


@pytest.fixture(scope="module")
def byte_pairs():
    """In the manner of GPT-2: pairs of bytes, where white space belongs to tokens."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        [POEM * 3], tokenizers.trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    )
    return made


def test_ids_are_those_of_the_library_cut_and_filled_up_to_the_length(words_tokenizer):
    truth = tokenizers.Tokenizer.from_file(str(words_tokenizer / "tokenizer.json"))
    truth.no_padding()
    truth.no_truncation()
    whole = truth.encode(LINES[0]).ids
    truth.enable_truncation(6)
    cut = truth.encode(LINES[0]).ids
    ours = tokenizer.read(str(words_tokenizer))
    np.testing.assert_array_equal(
        ours.encode(LINES[:1], 40), [[*whole, *[PADDING_TOKEN] * (40 - len(whole))]], strict=False
    )
    np.testing.assert_array_equal(ours.encode(LINES[:1], 6), [cut])
    assert ours.encode(LINES, 6).shape == (len(LINES), 6)
    assert ours.encode(LINES, 6).dtype == np.int32
    assert (cut[0], cut[-1]) == (2, 3)
    assert ours.vocabulary == truth.get_vocab_size()


def test_many_texts_have_the_ids_that_each_has_alone(words_tokenizer):
    ours = tokenizer.read(str(words_tokenizer))
    texts = [f"{LINES[number % 4]} {number}" for number in range(1200)]
    together = ours.encode(texts, 12)
    for number in (0, 511, 512, 1199):
        np.testing.assert_array_equal(together[number], ours.encode([texts[number]], 12)[0])


def test_a_long_text_has_the_ids_that_the_library_gives_for_the_whole(byte_pairs, words_tokenizer):
    text = (POEM + "\n" + POEM.replace("\n", " \n  ")) * 400
    assert len(text) > 4 * tokenizer._PIECE_CHARACTERS
    ours = Tokenizer(byte_pairs.to_str())
    np.testing.assert_array_equal(ours.tokens(text), byte_pairs.encode(text, add_special_tokens=False).ids)
    assert ours.decode(ours.tokens(text)) == text
    words = tokenizers.Tokenizer.from_file(str(words_tokenizer / "tokenizer.json"))
    words.no_padding()
    words.no_truncation()
    found = tokenizer.read(str(words_tokenizer)).tokens(text)
    np.testing.assert_array_equal(found, words.encode(text, add_special_tokens=False).ids)


def test_characters_are_tokens_in_the_order_of_unicode_and_others_are_unknown():
    ours = tokenizer.make_character_tokenizer(["ba\n", "é b"])
    library = tokenizers.Tokenizer.from_str(ours.content)
    assert library.get_vocab() == {"\ufffd": 0, "\n": 1, " ": 2, "a": 3, "b": 4, "é": 5}
    assert ours.tokens("aéx\n").tolist() == [3, 5, 0, 1]
    assert library.encode("aéx\n").ids == [3, 5, 0, 1]
    assert ours.decode([3, 5, 0, 1, PADDING_TOKEN]) == "aé\ufffd\n"
    assert ours.encode(["ab", "a"], 3).tolist() == [[3, 4, PADDING_TOKEN], [3, PADDING_TOKEN, PADDING_TOKEN]]
    assert ours.vocabulary == 6


def test_the_same_characters_give_the_same_content():
    contents = set()
    for _ in range(5):
        contents.add(tokenizer.make_character_tokenizer([POEM]).content)
        gc.collect()
    assert len(contents) == 1


def test_the_mask_token_is_found_by_its_usual_names(words_tokenizer):
    assert tokenizer.read(str(words_tokenizer)).mask_token == 4
    assert tokenizer.make_character_tokenizer(["[MASK]"]).mask_token is None


def test_text_of_padding_and_special_tokens_is_empty(words_tokenizer):
    ours = tokenizer.read(str(words_tokenizer))
    assert ours.decode(ours.encode(["night"], 12)[0]).replace(" ", "").replace("##", "") == "night"


def test_a_length_without_room_for_text_is_an_error(words_tokenizer):
    ours = tokenizer.read(str(words_tokenizer))
    with pytest.raises(UserError, match=r"data.text_length: 2 has no room .* the 2 special tokens .*; give at least 3"):
        ours.encode(LINES, 2)
    assert ours.encode(LINES, 3).shape == (len(LINES), 3)


def _spoil(folder, case):
    file = folder / "tokenizer.json"
    if case == "none":
        return ""
    if case == "missing":
        return str(folder / "no.json")
    if case == "folder without":
        return str(folder)
    file.write_bytes({"broken": b'{"model"', "bytes": b"\xff\xfe{}", "unknown": b'{"model": {"type": "Magic"}}'}[case])
    return str(file)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("none", "data.tokenizer: not set"),
        ("missing", "data.tokenizer: no such file '.*no.json'; give a tokenizer.json, a directory with one, or"),
        ("folder without", "data.tokenizer: '.*' has no tokenizer.json; save"),
        ("broken", r"data.tokenizer: '.*json' is not a tokenizer for the library `tokenizers` \(EOF"),
        ("unknown", r"data.tokenizer: '.*json' is not a tokenizer for the library `tokenizers` \("),
        ("bytes", "data.tokenizer: '.*json' cannot be read"),
    ],
)
def test_an_unusable_tokenizer_is_an_error_in_one_line(tmp_path, case, message):
    with pytest.raises(UserError) as raised:
        tokenizer.open_tokenizer(_spoil(tmp_path, case), [])
    assert re.search(message, str(raised.value))
    assert "\n" not in str(raised.value)


def test_a_tokenizer_without_tokens_is_an_error():
    empty = json.loads(tokenizer.make_character_tokenizer(["a"]).content)
    empty["model"]["vocab"] = {}
    with pytest.raises(UserError, match=r"data.tokenizer: 'tokenizer.json' has no tokens"):
        Tokenizer(json.dumps(empty))
