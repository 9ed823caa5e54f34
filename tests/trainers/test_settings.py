import pytest

from configs import defaults
from data import Features
from plumbline import UserError
from trainers import settings

IMAGE = Features(kind="image", shape=(8, 8, 1), dtype="uint8", task="classification", class_names=("a", "b"))
TEXT = Features(
    kind="text", shape=(8,), dtype="int32", task="classification", class_names=("a", "b"), vocabulary=9, tokenizer="{}"
)
LANGUAGE = Features(kind="text", shape=(8,), dtype="int32", task="language", vocabulary=9, tokenizer="{}")


def test_fields_and_sections_that_a_config_lacks_have_their_defaults():
    config = defaults.get_config().to_dict()
    config["optimizer"]["momentum"] = 0.5
    earlier = {name: dict(part) if isinstance(part, dict) else part for name, part in config.items()}
    del earlier["prune"], earlier["optimizer"]["nesterov"], earlier["seed"]
    assert settings.with_defaults(earlier) == config
    assert "prune" not in earlier


def check(features, **fields):
    config = defaults.get_config()
    source = "digits" if features is IMAGE else "text:poem.txt"
    named = {name.replace("__", "."): value for name, value in fields.items()}
    config.update_from_flattened_dict({"data.source": source, "model.name": "gpt", **named})
    settings.check_task(config, features)


@pytest.mark.parametrize(
    ("features", "fields", "message"),
    [
        (TEXT, {"model__name": "mlp"}, "model.name: 'mlp' reads no texts, but 'text:poem.txt' holds some; choose bert"),
        (IMAGE, {"model__name": "bert"}, "model.name: 'bert' reads texts, but 'digits' holds none; choose another"),
        (
            TEXT,
            {"model__gpt__pooling": "tokens"},
            "model.gpt.pooling: 'tokens' given, but classification takes another",
        ),
        (LANGUAGE, {"model__gpt__pooling": "last"}, "model.gpt.pooling: 'last' given, but language takes 'tokens'"),
        (
            LANGUAGE,
            {"model__name": "bert"},
            "objective.name: 'auto' asks for the next token, which 'bert' sees; choose",
        ),
        (LANGUAGE, {"objective__label_smoothing": 0.1}, "objective.label_smoothing: is for classification, but the"),
        (LANGUAGE, {"data__class_weights": "balanced"}, "data.class_weights: are for classification, but the data are"),
        (TEXT, {"augment__mixup": 0.2}, "augment.mixup: cannot mix texts; leave it at 0"),
        (LANGUAGE, {"augment__mixup": 0.2}, "augment.mixup: cannot mix texts; leave it at 0"),
        (TEXT, {"augment__cutmix": 0.2}, "augment.cutmix: is for images, but 'text:poem.txt' holds texts"),
        (LANGUAGE, {"augment__flip": True}, "augment.flip: is for images, but 'text:poem.txt' holds texts"),
    ],
)
def test_what_does_not_fit_the_data_is_an_error(features, fields, message):
    with pytest.raises(UserError) as raised:
        check(features, **fields)
    assert str(raised.value).startswith(message)


def test_what_fits_passes():
    check(LANGUAGE)
    check(LANGUAGE, model__gpt__pooling="tokens")
    check(LANGUAGE, model__name="bert", objective__name="masked_token")
    check(TEXT, model__name="bert", objective__label_smoothing=0.1)
    check(TEXT, model__gpt__pooling="mean")
    check(IMAGE, model__name="vit", augment__mixup=0.2)
