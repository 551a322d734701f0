"""Documents of the server against the official client's models: none lacks a field."""

import copy
import json
from collections import Counter

from pydantic import BaseModel

# What users make of them, by themselves or by functions of the client, is no answer.
INPUTS = ("elluminate.schemas.atif", "elluminate.schemas.conversation")
INPUT_NAMES = ("ScenarioIn",)
seen = Counter()


def whole(kind, document):
    """Validate a document, and see that each of its objects has all fields of its class."""
    look(kind.model_validate(json.loads(json.dumps(document))), document)
    return document


def look(value, document):
    if isinstance(value, BaseModel) and type(value).__module__.startswith("elluminate."):
        seen[type(value).__name__] += 1
        fields = set(type(value).model_fields)
        assert not fields - document.keys(), (type(value), fields - document.keys())
        for name in fields:
            look(getattr(value, name), document[name])
    elif isinstance(value, list):
        for one, part in zip(value, document, strict=True):
            look(one, part)
    elif isinstance(value, dict):
        for key, one in value.items():
            look(one, document[key if key in document else str(key)])


def watch():
    """Look at each document that the client itself reads from here on."""
    read = BaseModel.model_validate.__func__

    def model_validate(cls, document, **options):
        given = copy.deepcopy(document)
        value = read(cls, document, **options)
        if (
            isinstance(given, dict)
            and cls.__module__ not in INPUTS
            and cls.__name__ not in INPUT_NAMES
        ):
            look(value, given)
        return value

    BaseModel.model_validate = classmethod(model_validate)
