"""The registry of named operations by the official client, and what they share."""

OPERATIONS = {}


def operation(name):
    def take(function):
        assert name not in OPERATIONS, name
        OPERATIONS[name] = function
        return function

    return take


def of(client, thing):
    """The object as if this client had read it, for its own methods."""
    copy = thing.model_copy()
    copy._client = client
    return copy


def ids(found):
    return [one.id for one in found]
